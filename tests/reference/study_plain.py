"""Plain PyTorch versions of rtn, hqq, awq, gptq on the lune models: what a right implementation should reach.
python3 tests/reference/study_plain.py, from the root of the tree, on a GPU."""
import json, sys, torch, numpy as np
sys.path.insert(0, "examples/models"); import tasks
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_grad_enabled(False); dev = "cuda"
torch.backends.cuda.matmul.allow_tf32 = False

def grid(w, bits, sym=False):  # (m, g) -> scale, zero
    q = 2 ** bits - 1
    lo, hi = w.amin(1, True).clamp(max=0), w.amax(1, True).clamp(min=0)
    s = ((hi - lo) / q).clamp(min=1e-8); return s, (-lo / s).round()
def qdq(w, s, z, bits): return ((w / s).round() + z).clamp(0, 2 ** bits - 1).sub(z).mul(s)
def rtn(W, bits, g, H=None):
    w = W.reshape(-1, g); s, z = grid(w, bits); return qdq(w, s, z, bits).reshape(W.shape)
def hqq(W, bits, g, H=None, p=.7, beta=10., kappa=1.01, iters=20):
    w = W.reshape(-1, g); s, z = grid(w, bits); best = qdq(w, s, z, bits); be = (best - w).abs().mean(1, True)
    for _ in range(iters):
        q = ((w / s) + z).round().clamp(0, 2 ** bits - 1); wr = (q - z) * s; e = w - wr
        e2 = e.sign() * (e.abs() - e.abs().clamp(min=1e-9).pow(p - 1) / beta).clamp(min=0)
        z = (q - (w - e2) / s).mean(1, True); beta *= kappa
        wq = (((w / s) + z).round().clamp(0, 2 ** bits - 1) - z) * s; er = (wq - w).abs().mean(1, True)
        m = er < be; best = torch.where(m, wq, best); be = torch.where(m, er, be)
    return best.reshape(W.shape)
def gptq(W, bits, g, H, damp=.01, order=True, bs=64):
    W = W.clone(); K = W.shape[1]; H = H.clone(); dead = H.diag() == 0; H[dead, dead] = 1; W[:, dead] = 0
    # group-aware order: groups by largest diagonal, columns inside a group by diagonal
    perm = torch.arange(K, device=dev)
    if order:
        d = H.diag().reshape(-1, g); inside = d.argsort(1, True); gs = d.amax(1).argsort(descending=True)
        perm = (inside + torch.arange(0, K, g, device=dev)[:, None])[gs].reshape(-1)
    W, H = W[:, perm], H[perm][:, perm]; H.diagonal().add_(damp * H.diag().mean())
    U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True); Q = torch.zeros_like(W)
    for i in range(K):
        if i % g == 0: s, z = grid(W[:, i:i + g], bits)
        w = W[:, i]; q = qdq(w[:, None], s, z, bits)[:, 0]; Q[:, i] = q
        W[:, i:] -= ((w - q) / U[i, i])[:, None] * U[i, i:][None]
    return Q[:, perm.argsort()]

def prompts(tok, rows, t): return [tok.apply_chat_template([{"role": "system", "content": tasks.SYSTEM[t]}, {"role": "user", "content": tasks.user_text(t, r)}], add_generation_prompt=True, tokenize=False, enable_thinking=False) for r in rows]
def run(name, bits, g, variant="all"):
    d = f"examples/models/{name}"; tok = AutoTokenizer.from_pretrained(d); out = {}
    m = AutoModelForCausalLM.from_pretrained(d, dtype=torch.float32).to(dev).eval(); saved = {k: v.clone() for k, v in m.state_dict().items()}
    test = []
    for t in tasks.TASKS:
        rows = [json.loads(l) for l in open(f"examples/data/{t}.test.jsonl")]
        end = tok.eos_token
        for p, r in zip(prompts(tok, rows, t), rows):
            a = tok(p, add_special_tokens=False).input_ids; b = tok(tasks.answer_text(t, r) + end, add_special_tokens=False).input_ids; test.append((t, a, b))
    L = max(len(a) + len(b) for _, a, b in test); ids = torch.zeros(len(test), L, dtype=torch.long); w = torch.zeros(len(test), L, dtype=torch.bool)
    for i, (_, a, b) in enumerate(test): ids[i, :len(a) + len(b)] = torch.tensor(a + b); w[i, len(a):len(a) + len(b)] = True
    ids, w = ids.to(dev), w.to(dev)
    def score():
        ok = torch.cat([((m(input_ids=ids[i:i + 200], use_cache=False).logits[:, :-1].argmax(-1) == ids[i:i + 200, 1:]) | ~w[i:i + 200, 1:]).all(1) for i in range(0, len(ids), 200)]).cpu().numpy()
        ts = np.array([t for t, _, _ in test]); return int(ok.sum()), [int(ok[ts == t].sum()) for t in tasks.TASKS]
    cal = [tok(tok.apply_chat_template(json.loads(l)["messages"], tokenize=False, enable_thinking=False), add_special_tokens=False).input_ids for l in open("examples/data/calibration.jsonl")]
    CL = max(map(len, cal)); cids = torch.zeros(len(cal), CL, dtype=torch.long); cm = torch.zeros(len(cal), CL, dtype=torch.bool)
    for i, c in enumerate(cal): cids[i, :len(c)] = torch.tensor(c); cm[i, :len(c)] = True
    tw = torch.zeros(len(cal), CL)
    for i, (c, l) in enumerate(zip(cal, open("examples/data/calibration.jsonl"))):
        ms = json.loads(l)["messages"]
        sysn = len(tok(tok.apply_chat_template(ms[:1], tokenize=False, enable_thinking=False), add_special_tokens=False).input_ids)
        ansn = len(tok(ms[-1]["content"], add_special_tokens=False).input_ids) + 2
        tw[i, :len(c)] = 1
        if variant in ("nosys", "answer"): tw[i, :sysn] = 0
        if variant == "answer": tw[i, sysn:len(c)] = 1; tw[i, len(c) - ansn:len(c)] = 10
    cids, cm, tw = cids.to(dev), cm.to(dev).reshape(-1), tw.to(dev).reshape(-1)
    sw = tw[cm].sqrt()[:, None]
    def acts(mods):  # right padding under a causal mask: real rows are exact, padded rows are dropped
        store = {}; hs = [mods[n].register_forward_hook(lambda _, i, o, n=n: store.__setitem__(n, i[0].reshape(-1, i[0].shape[-1])[cm])) for n in mods]
        m(input_ids=cids, use_cache=False)
        for h in hs: h.remove()
        return store
    err = {}
    for meth in (("bf16", "rtn", "hqq", "awq", "gptq") if variant == "all" else ("awq", "gptq")):
        m.load_state_dict(saved); es = []; wins = tot = 0
        if meth != "bf16":
            for layer in m.model.layers:
                lin = {n: x for n, x in layer.named_modules() if isinstance(x, torch.nn.Linear)}
                stages = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
                for st in stages:
                    X = acts({st[0]: lin[st[0]]})[st[0]]; X = X * sw; H = X.T @ X
                    if meth == "awq" and st[0] != "self_attn.o_proj":
                        xm = X.abs().mean(0); best = None
                        Ws = [lin[n].weight.clone() for n in st]
                        for r in [i / 20 for i in range(20)]:
                            s = xm.pow(r).clamp(min=1e-4); s = s / (s.max() * s.min()).sqrt()
                            if r == 0: s = torch.ones_like(s)
                            e = sum((((rtn(W * s, bits, g) / s) - W) @ H * ((rtn(W * s, bits, g) / s) - W)).sum().item() for W in Ws)
                            if best is None or e < best[0]: best = (e, s, r)
                        s = best[1]
                        for n, W in zip(st, Ws): lin[n].weight.copy_(W * s)
                        if st[0] == "self_attn.q_proj": layer.input_layernorm.weight.div_(s)
                        elif st[0] == "mlp.gate_proj": layer.post_attention_layernorm.weight.div_(s)
                        else: lin["mlp.up_proj"].weight.div_(s[:, None])  # already quantized rows: scale exactly foldable into its scales
                        X = X / s; H = X.T @ X
                    for n in st:
                        W = lin[n].weight.clone(); f = {"rtn": rtn, "hqq": hqq, "awq": rtn, "gptq": gptq}[meth]
                        Q = f(W, bits, g, H); D = Q - W; e = ((D @ H * D).sum() / (W @ H * W).sum()).sqrt().item(); D2 = rtn(W, bits, g) - W; e2 = ((D2 @ H * D2).sum() / (W @ H * W).sum()).sqrt().item()
                        es.append(e); tot += 1; wins += e < e2; lin[n].weight.copy_(Q)
        sc = score(); out[meth] = (sc, round(float(np.mean(es)), 4) if es else 0, f"{wins}/{tot}")
        print(name, f"w{bits}g{g}", variant, meth, *out[meth], flush=True)
for name in ("lune-5m", "lune-3m", "lune-1m"):
    for bits, g in ((4, 64), (3, 64), (2, 64)):
        for v in sys.argv[1:] or ["all"]:
            run(name, bits, g, v)
