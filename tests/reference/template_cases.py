#!/usr/bin/env python3
"""Writes tests/reference/template_cases.json: small templates, their variables, and what Jinja makes of them.

The environment is the one Transformers' apply_chat_template documents: jinja2 3.1, ImmutableSandboxedEnvironment,
trim_blocks, lstrip_blocks, loopcontrols, tojson without escaping, raise_exception, strftime_now (here with a clock
that stands still), {% generation %} as a block that only marks. A case whose template raises says "error".

usage: python3 tests/reference/template_cases.py > tests/reference/template_cases.json
"""
import datetime
import json
import sys

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

CLOCK = datetime.datetime(2026, 1, 1)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller):
        return caller()


def environment(clock=CLOCK):
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: clock.strftime(f)
    return env


U = "h\u00e9llo w\u00f6rld \u4f60\u597d \U0001f600"
CHAT = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Hi\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
    {"role": "user", "content": "What's 2+2?"},
]
DATA = {
    "s": "Hello, World", "u": U, "e": "", "n": 7, "x": 2.5, "z": 0, "big": 123456789012, "t": True, "f": False,
    "nil": None, "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "mix": [1, "a", None, True, 2.0, [1, 2], {"k": "v"}],
    "d": {"b": 1, "a": 2, "c": [1, {"x": None}]}, "empty": [], "nothing": {}, "messages": CHAT,
    "people": [{"name": "Ann", "age": 31, "in": {"city": "Rome"}}, {"name": "bob", "age": 25, "in": {"city": "Oslo"}},
               {"name": "Cid", "age": 31, "in": {"city": "Rome"}}],
    "text": "  one two\tthree\n  four  ", "lines": "a\nb\n\nc", "html": "<a href=\"x\">'&'</a>",
}

CASES = []


def add(group, *templates, **variables):
    for template in templates:
        CASES.append({"group": group, "template": template, "variables": variables})


def expressions(group, *sources):
    for source in sources:
        add(group, "{{ " + source + " }}")


# White space
add("space", "a {%- if t %} b {%- endif %} c", "a {% if t -%} b {% endif -%} c", "  {% if t %}\n  x\n  {% endif %}\ny",
    "x  {% if t %}\n y {% endif %}\n\nz", "  {%+ if t %}\n  x\n  {%+ endif %}\ny", "{% if t +%}\nx{% endif %}\n",
    "{% if t %}\n\nx\n\n{% endif %}\n\n", "a\n", "a\n\n", "a\n\n\n", "\n", "", " ", "{{ s }}\n", "{{ s }}\n\n",
    "{{- s -}}", " {{- s -}} \n b", "a {{- s }} b", "a\r\nb\rc\n", "{% set a = 'x\r\ny' %}{{ a }}",
    "  {# note #}\nx", "a {#- note -#} b", "a\n  {#- note #}\n  b", "{# a #}{# b #}\nx", "a{# x\ny #}b", "a {#+ n +#}\nb",
    "{% raw %}{{ s }} {% if %}{% endraw %}", "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "a {%- raw -%} {{ x }} {%- endraw -%} b", "{% raw -%}  a{% endraw +%}\nb", "{% raw %}{% endraw %}|",
    "\t{% if t %}\n\tx\n\t{% endif %}", "a {% if t %}b{% endif %}\n  {% if t %}\nc{% endif %}",
    "{% for i in l %}\n    {{ i }}\n{% endfor %}\nend", "{% for i in l %}{{ i }},{% endfor %}\n  {{ s }}",
    "  {{ s }}", "{% if t %}\n  {% if t %}\n    x\n  {% endif %}\n{% endif %}\n", "\u00a0{%- if t %}a{% endif %}",
    "x\u3000{{- s }}", "{{ '{{' }}{{ '%}' }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': {}} }}", "{ { s } }",
    "{%if t%}x{%endif%}", "{{s}}{{n}}", "a{% if f %}b{% endif %}\n c", "{{ s }}{# c #}\n{{ n }}",
    "  {%- set a = 1 %}\n  {%- set b = 2 -%}\n  {{ a + b }}", "#}{{ s }}%}", "{{ s }} }} %}", "a\n   {{- n }}\n   b")

# Literals
expressions("literal", "'a\\nb'", "'a\\tb\\\\'", "\"it's\"", "'\\'q\\''", "'\\x41\\u00e9\\U0001F600'", "'\\101\\7'",
            "'\\q'", "'a' 'b' \"c\"", "1_000", "0x1F", "0b101", "0o17", "1.5e3", "1e-7", "1E5", "2.0", "1_0.2_5", "0", "00",
            "true", "True", "false", "False", "none", "None", "[]", "[1, 'a', none,]", "()", "(1,)", "(1, 2)", "1, 2",
            "{}", "{'a': 1, 'b': [2]}", "{'a': 1,}", "{1: 'x', none: 2, true: 3}", "'" + U + "'", "1.0", "100000.0",
            "1e16", "1e15", "123456789.125", "0.0001", "0.00001", "1e22", "1e100", "0.1", "0.1 + 0.2", "1/3", "5e-324",
            "1.7976931348623157e308", "-0.0", "2.5e-5", "1e5 * 3", "'a\\\nb'", "''", "'\\a\\b\\f\\v\\r'|length",
            "'multi\nline'")

# Operators
expressions("operator", "1 + 2 * 3", "(1 + 2) * 3", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7 % -3", "7.5 // 2", "-7.5 % 2",
            "7 / 2", "6 / 2", "2 ** 10", "2 ** 3 ** 2", "-2 ** 2", "2 ** -1", "2.0 ** 3", "(-8) ** 3", "4 ** 0.5",
            "1 - 2 - 3", "- 3", "+3", "--3", "-x", "1 ~ 2 ~ 'a'", "s ~ n ~ none ~ true", "(1 + 2) ~ 3", "1 ~ 2 * 3",
            "'a' + 'b' * 3", "3 * 'ab'", "[1] * 3", "[1, 2] + [3]", "(1,) + (2,)", "'a' * -1", "true + 1", "true * 'x'",
            "n + x", "big * 1000", "1 == 1.0", "true == 1", "'a' == 'a'", "'a' != 'b'", "1 < 2", "1 < 2 < 3", "1 < 3 < 2",
            "1 < 2 == true", "'a' < 'b'", "'B' < 'a'", "'a' < 'ab'", "[1, 2] < [1, 3]", "1 <= 1", "2 >= 3", "1 != 1",
            "[1, 2] == [1, 2]", "{'a': 1} == {'a': 1.0}", "(1, 2) == [1, 2]", "none == none", "none == false",
            "nope == nope2", "nope == none", "1 in l", "5 in l", "5 not in l", "'ell' in s", "'' in s", "'b' in d",
            "'z' not in d", "2 in (1, 2)", "'x' in nope", "not t", "not f", "not not s", "not 1 == 2", "t and s", "f and s",
            "e or s", "nil or 0 or 'end'", "t or f and f", "not t or t", "1 and 2 and 3", "0 or nope", "s if t", "s if f",
            "s if t else n", "s if f else n if f else x", "(s if f) is defined", "'a' if t else 'b' ~ 'c'",
            "1 if f else 2, 3", "n > 5 and n < 10", "n is defined and n == 7", "1 in [1, 2] == true", "'a' ~ 'b' == 'ab'",
            "1.5 + 1", "3 * 1.5", "10 // 3.0", "2 * x", "'%s-%d' % ('a', 3)", "'%s' % n", "'%05.2f|%-5s|%5s|%x|%%' % (3.14159, 'a', 'b', 255)",
            "'%(a)s' % {'a': 1}", "'%r' % 'a'", "'%+d % d' % (1, 2)", "'%e %g' % (12345.678, 0.00001)", "9223372036854775807 - 1",
            "-9223372036854775807", "1 if nope else 2", "1 == 1 != 2", "l == [3, 1, 2]", "'é' < 'z'", "1e400", "-1e400")
expressions("operator error", "1 + 2 ~ 3", "1 + 'a'", "'a' + 1", "'a' + none", "nope + 'a'", "'a' + nope", "1 / 0", "1 // 0", "1 % 0", "1.0 / 0",
            "0 ** -1", "'a' < 1", "none < 1", "1 in 1", "1 in 'abc'", "-'a'", "[1] + (1,)", "nope < 1", "[] < {}", "'a' * 'b'",
            "{[]: 1}", "'%d' % 'x'", "'%s %s' % 'a'", "'%s' % (1, 2)", "none in none")

# Subscripts, slices, attributes
expressions("subscript", "l[0]", "l[-1]", "l[5]", "l[-5]", "s[0]", "s[-1]", "s[99]", "u[1]", "u[-1]", "d['a']", "d.a", "d.zz", "d['zz']",
            "d['c'][1]['x']", "d.c.1.x", "d.c[0]", "l[1:]", "l[:1]", "l[:]", "l[::-1]", "l[::2]", "l[-2:]", "l[5:]", "l[1:0]", "s[1:4]",
            "s[::-1]", "s[-3:]", "s[:-3]", "s[::2]", "s[10:2:-2]", "u[::-1]", "u[4:9]", "u[-4:]", "(1, 2, 3)[1:]", "range(5)[1:3]|list",
            "range(10)[2]", "range(10)[-1]", "range(10)[::-2]|list", "messages[::-1][0].content", "messages[0]['role']", "messages[0].nope",
            "messages[-1]['content'][0]", "nil.foo", "n.foo", "s.foo", "l.foo", "l['x']", "l[1.5]", "l['0']", "d[1]", "l[true]", "nope",
            "d.items", "e[0]", "empty[0]", "(l)[0]", "'abc'[1]", "[1, 2][0]", "{'a': 5}.a", "{'a': 5}['a']", "s[none:none]", "s[none:2]",
            "l[0:2][::-1]", "d.get('a')", "d.get('zz')", "d.get('zz', 3)", "d['get']('a')", "people[0].in.city", "people[0]['in']['city']",
            "s['upper']()", "l[::-1][::-1]", "s[1]", "''[1:]", "u[20:]", "range(3)[5]", "(1, 2)[5]", "mix[6].k", "s[True]")
expressions("subscript error", "nope.foo", "nope[0]", "nope.foo.bar", "d.zz.y", "l[9].x", "l[::0]", "nil.foo.bar", "nope[1:]", "nil[1:]", "n[:1]", "d[1:]", "l['a':]", "[[]]|unique|list", "nil|indent", "n|truncate(1)", "nope()", "d.zz()",
            "s()", "n()", "d.append(1)", "l.append(1)", "s.nope()")
for name in ("__class__", "__dict__", "__init__", "__globals__", "__mro__", "__subclasses__"):
    expressions("attack", f"s.{name}", f"l.{name} is defined", f"d['{name}']", f"messages.{name}", f"(1).{name}", f"''['{name}']")
expressions("attack error", "s.__class__.__mro__", "s.__class__.__subclasses__()", "d.__init__.__globals__", "self.__init__.__globals__",
            "cycler.__init__.__globals__.os", "namespace.__init__.__globals__", "[].__class__.__base__",
            "lipsum.__globals__['os']", "messages.__class__.__init__.__globals__", "''.__class__.__mro__[1].__subclasses__()",
            "joiner.__init__.__globals__.os.popen('id').read()", "range.__self__.__import__('os')")

# Methods
expressions("method", "s.upper()", "s.lower()", "s.title()", "s.capitalize()", "s.swapcase()", "u.upper()", "u.title()", "'stra\u00dfe'.upper()",
            "'\u0391\u03a3 \u03a3\u0391\u03a3'.lower()", "'\u01c6x'.title()", "'they\\'re bill\\'s'.title()", "text.strip()", "text.lstrip()", "text.rstrip()",
            "'xxabcxx'.strip('x')", "'abcba'.strip('ab')", "'\\n a'.lstrip('\\n')", "'\u3000 a\u00a0'.strip()", "'\u00e9a\u00e9'.strip('\u00e9')",
            "text.split()", "text.split(' ')", "s.split(', ')", "s.split(',', 1)", "'a,b,c'.split(',', 1)", "'a,b,c'.rsplit(',', 1)",
            "'a b  c '.split(none, 1)", "'a b  c '.rsplit(none, 1)", "' a b '.split(maxsplit=1)", "''.split()", "''.split(',')", "'a'.split('a')",
            "'a,b'.split(sep=',')", "'aXbXc'.rsplit('X')", "'<think>x</think>y'.split('</think>')[-1]", "'a\u3000b\u00a0c'.split()", "'abc'.split('zz')",
            "s.replace('l', 'L')", "s.replace('l', 'L', 1)", "s.replace('', '-')", "'ab'.replace('', '-', 1)", "'ab'.replace('', '-', 2)", "s.replace('zz', 'y')",
            "'aaa'.replace('aa', 'b')", "'aaa'.replace('a', '', -1)", "s.startswith('Hell')", "s.startswith('ello', 1)", "s.endswith('d')",
            "s.startswith(('x', 'H'))", "s.endswith(('x', 'y'))", "s.startswith('')", "s.endswith('')", "'abc'.startswith('b', 1, 2)", "'abc'.startswith('', 4)",
            "s.find('o')", "s.find('o', 5)", "s.rfind('o')", "s.find('zz')", "s.index('W')", "u.find('w')", "u.rfind('\u597d')", "'aXbX'.find('X', 2, 3)",
            "s.count('l')", "s.count('')", "'aaaa'.count('aa')", "', '.join(w)", "''.join(['a'])", "'-'.join('abc')", "'-'.join([])", "','.join(d)",
            "'%'.join(w)", "lines.splitlines()", "'a\\r\\nb\\rc\\x0bd\u2028e'.splitlines()", "lines.splitlines(true)", "''.splitlines()", "'\\n'.splitlines()",
            "'a=b=c'.partition('=')", "'a=b=c'.rpartition('=')", "'abc'.partition('=')", "'abc'.rpartition('=')", "'abc'.removeprefix('a')",
            "'abc'.removesuffix('c')", "'abc'.removeprefix('z')", "'abc'.removesuffix('')", "'7'.zfill(3)", "'-7'.zfill(4)", "'ab'.center(7, '*')", "'abc'.center(6, '*')", "'ab'.ljust(4) ~ '|'",
            "'ab'.rjust(4, '0')", "'12'.isdigit()", "''.isdigit()", "'1a'.isdigit()", "'ab'.isalpha()", "'a1'.isalnum()", "' \\t'.isspace()", "'AB'.isupper()",
            "'A1'.isupper()", "'1'.isupper()", "'ab c'.islower()", "'aB'.islower()", "d.items()", "d.keys()", "d.values()", "d.items()|list", "d.keys()|list",
            "d.values()|list|length", "nothing.items()|list", "d.items()|length", "'b' in d.keys()", "2 in d.values()", "d.copy()", "l.index(1)", "l.count(3)", "(1, 1).count(1)",
            "'{} and {}'.format(1, 'b')", "'{0}{1}{0}'.format('a', 'b')", "'{a}'.format(a=1)", "'{{}}'.format()", "'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')", "'{:05d} {:.2f} {:,}'.format(42, 3.14159, 1234567)",
            "'{:x} {:X} {:b} {:o}'.format(255, 255, 5, 8)", "'{!r}'.format('a')", "'{:*^7}'.format('x')", "'{:+d}'.format(5)", "'{:%}'.format(0.25)", "'{:e}'.format(1234.5)", "'{:3}|'.format(7)",
            "s.upper().lower().title()", "(s ~ 'x').upper()", "'a'.upper() ~ 'b'", "s.split(',')[1].strip()|upper", "'\u00c9'.lower()", "'\ufb01'.upper()", "'\u0130'.lower()|length")
expressions("method error", "'a'.split('')", "', '.join([1])", "s.replace('a')", "s.replace(1, 2)", "s.startswith(1)", "s.index('zz')", "l.index(9)", "s.upper(1)", "s.strip(1)", "'{} {}'.format(1)", "'{a}'.format(b=1)",
            "d.get()", "'a'.center('x')", "'{:d}'.format('a')", "'{:d}'.format(1.5)", "s.split(',', 'x')", "n.upper()", "nil.items()")

# Filters
expressions("filter", "s|upper", "s|lower", "n|upper", "u|upper", "'hELLO wORLD'|capitalize", "'hello wORLD foo-bar (baz) [q'|title", "'they\\'re'|title", "text|trim", "'xax'|trim('x')",
            "nil|trim", "nope|trim", "nope|upper", "nope|length", "s|length", "u|length", "l|length", "d|length", "l|count", "range(4)|length", "nope|default('x')", "nope|d('x')", "nil|default('x')",
            "nil|default('x', true)", "e|default('x', boolean=true)", "e|d('x')", "nope|default", "d.zz|default(3)", "nope|default(default_value='q')", "l|join", "l|join(', ')", "mix|join('|')", "people|join(', ', attribute='name')",
            "people|join(attribute='in.city')", "s|join('-')", "d|join(',')", "l|first", "l|last", "empty|first", "empty|last", "s|first", "s|last", "u|last", "d|first", "d|last", "range(3)|last", "nope|first",
            "l|list", "s|list", "d|list", "(1, 2)|list", "range(3)|list", "u|list", "d.items()|list", "nope|list", "l|sort", "w|sort", "w|sort(case_sensitive=true)", "l|sort(reverse=true)", "people|sort(attribute='age')|map(attribute='name')|list",
            "people|sort(attribute='in.city,name')|map(attribute='name')|list", "people|sort(true, attribute='age')|map(attribute='name')|list", "s|sort", "d|sort", "l|reverse|list", "s|reverse", "u|reverse", "d|reverse|list", "l|map('string')|list", "w|map('upper')|join(',')",
            "people|map(attribute='name')|list", "people|map(attribute='nope')|list", "people|map(attribute='nope', default='-')|list", "people|map(attribute='in.city')|list", "[[1, 2], [3]]|map('first')|list", "[[1, 2], [3]]|map(attribute=0)|list", "[[1, 2], [3]]|map('join', '-')|list",
            "['a', '']|map('default', 'x', true)|list", "[1, 0, none, '']|select|list", "[1, 0, none, '']|reject|list", "l|select('odd')|list", "l|reject('odd')|list", "l|select('>', 1)|list", "l|select('in', [1, 2])|list", "people|selectattr('age', 'equalto', 31)|map(attribute='name')|list",
            "people|selectattr('age', '==', 25)|list|length", "people|rejectattr('age', 'eq', 31)|map(attribute='name')|join", "people|selectattr('nope')|list", "people|selectattr('nope', 'undefined')|list|length", "people|rejectattr('name')|list", "people|selectattr('in.city', 'ne', 'Rome')|first",
            "mix|select('string')|list", "mix|select('mapping')|first", "messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list", "messages|rejectattr('role', 'equalto', 'system')|list|length", "[1, 2, 1, 3]|unique|list", "w|unique|list", "['a', 'A', 'b']|unique|list", "['a', 'A']|unique(true)|list",
            "people|unique(attribute='age')|map(attribute='name')|list", "[1, true, 1.0, '1']|unique|list", "l|min", "l|max", "w|min", "w|max", "w|max(case_sensitive=true)", "people|max(attribute='age')", "empty|max", "l|sum", "people|sum(attribute='age')", "l|sum(start=10)", "[0.5, 1]|sum", "[[1], [2]]|sum(start=[])", "d|dictsort", "{'b': 1, 'A': 2}|dictsort", "{'b': 1, 'A': 2}|dictsort(true)",
            "{'b': 1, 'A': 2}|dictsort(by='value')", "{'b': 1, 'A': 2}|dictsort(reverse=true)", "d|items|list", "nope|items|list", "'3'|int", "'3.9'|int", "' 12 '|int", "'x'|int", "'x'|int(5)", "'0x1f'|int(base=16)", "'ff'|int(0, 16)", "'1_000'|int", "'-7'|int", "3.9|int", "-3.9|int", "none|int", "true|int", "[]|int", "'1e3'|int", "'inf'|int", "'3.5'|float", "'x'|float", "'x'|float(1.5)", "3|float", "' 1e3 '|float", "none|float", "'nan'|float", "'-inf'|float", "'1_0.5'|float", "'.5'|float", "'5.'|float", "'+5'|int", "'0b11'|int(0, 2)", "'0b11'|int(0, 0)", "'077'|int",
            "n|string", "none|string", "x|string ~ 'a'", "l|string", "s|safe", "-5|abs", "-2.5|abs", "true|abs", "2.5|round", "3.5|round", "2.567|round(2)", "2.567|round(1, 'floor')", "2.11|round(1, 'ceil')", "42|round", "-2.5|round", "1234.5|round(-2)", "1250|round(-2)", "1350|round(-2)", "2.675|round(2)", "0.5|round|int", "42.55|round(1)", "7|round(0, 'floor')",
            "s|replace('l', 'L')", "s|replace('l', 'L', 1)", "n|replace('7', '8')", "s|replace('o', 0)", "lines|indent", "lines|indent(2)", "lines|indent(2, true)", "lines|indent(2, true, true)", "lines|indent(2, blank=true)", "lines|indent('> ')", "lines|indent(first=true)", "''|indent", "'a\\n'|indent", "'\\n\\na'|indent(first=true)", "'\\na'|indent(1)",
            "('x' * 300)|truncate(5)", "'hello big world'|truncate(9)", "'hello big world'|truncate(9, true)", "'hello big world'|truncate(9, true, '~')", "'hello big world'|truncate(9, leeway=0)", "'hello big'|truncate(9)", "'hello bigger'|truncate(9, false, '...', 5)", "'ab'|center(6) ~ '|'", "'ab'|center|length", "[1, 2, 3, 4, 5]|batch(2)|list", "[1, 2, 3]|batch(2, 'x')|list", "[1, 2, 3, 4, 5]|slice(2)|list", "[1, 2, 3]|slice(2, 'x')|list", "s|attr('upper') is defined", "d|attr('a') is defined",
            "'%s-%s'|format('a', 1)", "'%(a)s'|format(a=5)", "s|upper|lower|title", "l|map('string')|map('upper')|join", "(l|map('string')) is iterable", "(empty|select) and 'yes' or 'no'", "1 if (l|select('even')) else 2", "[3, 1]|sort|first", "people|groupby('age')|map('first')|list", "people|groupby('in.city')|map(attribute='list')|map('length')|list", "people|groupby('nope', default='q')|map(attribute='grouper')|list", "-1|abs ~ 'x'", "-n|abs", "1 + l|length", "s|length > 3", "not e|length", "'a'|upper + 'b'|upper", "l|first + 1", "'abc'|last|upper", "'a,b'.split(',')|last", "d.c|length * 2", "l | sort | reverse | list | first", "nope|default(none) is none", "s|d('x')|upper", "messages|map(attribute='role')|unique|join(',')", "['x', 'y']|map('replace', 'x', 'z')|list", "[' a ']|map('trim')|list", "mix|map('tojson')|join(';')", "['b', 'a']|map('indent', 2, true)|list", "nope|join(',')", "nope|sort", "nope|reverse|list", "nope|sum", "nope|map('upper')|list", "nope|select|list", "nope|unique|list", "nope|min", "nope|batch(2)|list", "nil|map('upper')|list", "nil|selectattr('a')|list", "z|reject|list", "f|select|list", "nil|map(attribute='a')|list")
expressions("filter error", "n|length", "none|length", "n|list", "n|first", "none|join", "d|map|list", "l|map('nope')|list", "l|select('nope')|list", "[1, 'a']|sort", "nope|int", "nope|float", "nope|abs", "nope|round", "'a'|abs", "l|items|list", "s|items|list", "l|dictsort", "nope|tojson", "l|join(1, 2, 3)",
            "s|upper(1)", "s|nope", "s|default(nope=1)", "n|sum", "['a']|sum", "l|map('string')|length", "l|select|last", "people|map(attribute='nope.deep')|list", "s|center('a')", "s|truncate(1)", "namespace(a=1)|tojson", "range(3)|tojson", "d.items()|tojson", "l|round", "s|attr", "d|dictsort(by='x')")

# JSON
expressions("tojson", "s|tojson", "u|tojson", "u|tojson(ensure_ascii=true)", "html|tojson", "n|tojson", "x|tojson", "t|tojson", "nil|tojson", "mix|tojson", "d|tojson", "d|tojson(indent=2)", "d|tojson(indent=4)", "mix|tojson(indent=1)", "nothing|tojson", "empty|tojson", "nothing|tojson(indent=2)",
            "empty|tojson(indent=2)", "{'a': [], 'b': {}}|tojson(indent=2)", "d|tojson(sort_keys=true)", "d|tojson(separators=(',', ':'))", "d|tojson(indent=0)", "d|tojson(indent='--')", "d|tojson(indent=none)", "d|tojson(false, 2)", "(1, 2)|tojson", "'a\\n\\t\\\"\\\\\\x01\\x7f\\x1f\\b\\f\\r/'|tojson", "'\\x7f\u00e9\u2028'|tojson(true)",
            "1e400|tojson", "-1e400|tojson", "1.0|tojson", "1e16|tojson", "{1: 2, none: 3, 1.5: 4, false: 5}|tojson", "people|tojson", "messages|tojson", "messages[0]|tojson ~ '\\n'", "[[], [[]], {'a': {'b': [1]}}]|tojson(indent=3)", "'</script>&'|tojson", "big|tojson", "d.c|tojson", "d.zz|default([])|tojson", "d|tojson|length", "d|tojson|upper")

# Printing
expressions("print", "s", "u", "n", "x", "t", "f", "nil", "l", "mix", "d", "empty", "nothing", "nope", "['a\\'b']", "['a\"b\\'c']", "['\\n\\t\\\\']", "[u]", "['\\x00\\x7f\u00a0\u200b\u00ad']", "[nope]", "{'a': nope}", "[1.0, 1e20, -0.0]", "range(3)", "range(1, 4)", "range(0, 10, 3)",
            "[range(2)]", "(1,)", "[(1, 2), ()]", "[true, none]", "namespace(a=1, b='x')", "html", "people[0]", "d.items()", "['\\ud83d']|length", "[e]", "[[[]]]", "{'a': {'b': ()}}")

# Tests
for value in ("s", "e", "n", "x", "z", "t", "f", "nil", "l", "d", "nope", "(1, 2)", "range(3)", "range", "d.items()", "s.upper", "1.0", "d.zz", "namespace()"):
    for test in ("defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping", "iterable", "sequence", "callable"):
        CASES.append({"group": "test", "template": "{{ " + value + " is " + test + " }}", "variables": {}})
expressions("test", "n is odd", "n is even", "n is divisibleby 7", "n is divisibleby(2)", "n is eq 7", "n is equalto(7)", "n is ne 7", "n is gt 3", "n is lt 3", "n is ge 7", "n is le 6", "n is greaterthan 1", "n is lessthan 1", "n is in l", "3 is in l", "3 is not in l", "n is not none", "not n is none", "s is not string",
            "'ABC' is upper", "'abc' is lower", "'aBc' is lower", "n is sameas 7", "none is sameas none", "t is sameas true", "1 is sameas 1.0", "s is string and n is number", "s is defined or nope is defined", "nope is defined and nope.x", "s is string == true", "n is odd and not n is even", "s|length is odd", "l|first is number", "nope is not defined", "d.a is defined and d.a == 2", "d.zz is not defined or d.zz",
            "s is eq 'Hello, World'", "s is in ['Hello, World']", "1 if s is string else 2", "d is mapping and 'a' in d", "messages[0].content is string", "messages[0].nope is defined", "n is divisibleby 2 or t", "-1 is lt 0", "none is none", "'upper' is lower")
expressions("test error", "s is nope", "n is divisibleby", "s is odd", "nope is odd", "s is gt 1", "s is string is true")

# Statements
add("if", "{% if t %}a{% elif f %}b{% else %}c{% endif %}", "{% if f %}a{% elif t %}b{% else %}c{% endif %}", "{% if f %}a{% elif f %}b{% else %}c{% endif %}", "{% if f %}a{% endif %}", "{% if l %}1{% endif %}{% if empty %}2{% endif %}{% if nothing %}3{% endif %}{% if e %}4{% endif %}{% if z %}5{% endif %}{% if 0.0 %}6{% endif %}{% if nil %}7{% endif %}{% if nope %}8{% endif %}{% if namespace() %}9{% endif %}",
    "{% if t %}{% set a = 1 %}{% endif %}{{ a }}", "{% if 1, %}x{% endif %}", "{% if (t) and not (f) %}x{% endif %}", "{%- if t -%}\n x \n{%- endif -%}\n", "{% if t %}{% if f %}a{% else %}b{% endif %}{% endif %}", "{% if not t %}a{% else %}b{% endif %}")
add("for", "{% for i in l %}{{ i }}{% endfor %}", "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}", "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}", "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}{% endfor %}", "{% for (a, b) in [[1, 2], [3, 4]] %}{{ a }}{{ b }};{% endfor %}", "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for i in empty %}x{% else %}none{% endfor %}", "{% for i in nope %}x{% else %}none{% endfor %}", "{% for i in l %}x{% else %}none{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{{ loop.index }}{{ loop.last }};{% else %}none{% endfor %}", "{% for i in l if i > 9 %}{{ i }}{% else %}none{% endfor %}", "{% for c in 'héy' %}{{ c }}.{% endfor %}", "{% for i in range(3) %}{% for j in range(i) %}{{ loop.depth }}{{ loop.depth0 }}{{ i }}{{ j }};{% endfor %}{% endfor %}", "{% for i in range(2) %}{% set outer = loop %}{% for j in range(2) %}{{ outer.index }}{{ loop.index }};{% endfor %}{% endfor %}",
    "{% for i in l %}{% set a = i %}{% endfor %}{{ a }}", "{% set a = 0 %}{% for i in l %}{% set a = a + i %}{{ a }};{% endfor %}{{ a }}", "{% set ns = namespace(a=0) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }};{% endfor %}",
    "{% for i in [[1, [2, [3]]], [4]] recursive %}{{ loop.depth }}{% for j in i %}{{ j if j is number else loop.index }}{% endfor %};{% endfor %}", "{% for x in [{'n': 'a', 'c': [{'n': 'b', 'c': []}]}, {'n': 'c', 'c': []}] recursive %}<{{ x.n }}{{ loop.depth }}{{ loop(x.c) }}>{% endfor %}", "{% for i in 3, 4 %}{{ i }}{% endfor %}", "{% for i in (l if t else empty) %}{{ i }}{% endfor %}", "{% for i in l + [9] %}{{ i }}{% endfor %}", "{% for i in l[::-1] %}{{ i }}{% endfor %}", "{% for i in l|sort %}{{ i }}{% endfor %}",
    "{% for i in l %}\n  {{ i }}\n{% endfor %}\n", "{% for i in l -%}\n  {{ i }}\n{%- endfor %}\n", "{{ loop is defined }}{% for i in l %}{{ loop is defined }}{% endfor %}", "{% for m in messages %}{{ m['role'] }}: {{ m['content']|trim }}{{ '\\n' if not loop.last }}{% endfor %}", "{% for i in l %}{% for i in 'ab' %}{{ i }}{% endfor %}{{ i }}{% endfor %}", "{% set i = 'x' %}{% for i in l %}{% endfor %}{{ i }}", "{% for i in l %}{% if loop.first %}{% set q = 'first' %}{% endif %}{{ q }};{% endfor %}", "{% for i in range(5) if i is even %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for i in l|map('string') %}{{ i }}{{ loop.last }}{% endfor %}", "{% set g = l|map('string') %}{% for i in g %}{{ i }}{% endfor %}{% for i in g %}{{ i }}{% endfor %}|", "{% set g = l|select('odd') %}{{ g|first }}{{ g|list }}{{ g|list }}", "{% for i in range(4, 0, -1) %}{{ i }}{% endfor %}", "{% for i in range(0) %}x{% else %}y{% endfor %}", "{% for a, b in {'x': 1}.items() %}{{ a }}{{ b }}{% endfor %}", "{% for i in [1, 2] %}{{ loop.length }}{% for j in [3] %}{{ loop.length }}{% endfor %}{% endfor %}", "{% for x in [1,2,3] %}{{ loop.revindex }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}", "{% set ns = namespace(go=true) %}{% for i in range(5) if ns.go %}{{ i }}{% if i == 2 %}{% set ns.go = false %}{% endif %}{% endfor %}",
    "{% for i in [3,1] %}{{ i }}{% else %}{{ i }}{% endfor %}", "{% for i in d.values() %}{{ i }};{% endfor %}", "{% for i in l %}{% continue %}{% else %}none{% endfor %}", "{% for i in l %}{% break %}{% else %}none{% endfor %}", "{% for i in l %}{% if loop.last %}{% break %}{% endif %}{% else %}none{% endfor %}", "{% for key in d.keys()|sort %}{{ key }}{% endfor %}", "{% for i in mix %}{{ i }};{% endfor %}")
add("for error", "{% for i in n %}{% endfor %}", "{% for i in none %}{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% break %}", "{% for i in l %}", "{% for in l %}{% endfor %}", "{% for i l %}{% endfor %}")
add("set", "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [3, 4] %}{{ a }}{{ b }}", "{% set (a, b) = 'xy' %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ n }}y{% endset %}{{ a }}{{ a|length }}", "{% set a | upper %}x{{ n }}y{% endset %}{{ a }}", "{% set a | upper | replace('X', 'z') %}x{% endset %}{{ a }}", "{% set ns = namespace() %}{% set ns.a = 5 %}{{ ns.a }}{{ ns.b }}{{ ns.b is defined }}", "{% set ns = namespace(a=1) %}{% if t %}{% set ns.a = 2 %}{% endif %}{{ ns.a }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}", "{% set ns = namespace(l=[]) %}{% for i in range(3) %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l }}", "{% set a = 1 %}{% set a = a + 1 %}{{ a }}", "{% set s = 'new' %}{{ s }}", "{% set a = s if t else n %}{{ a }}", "{% set a = none %}{{ a is none }}{{ a is defined }}", "{% set a %}\n  x\n{% endset %}[{{ a }}]", "{% set ns = namespace(x='') %}{% set ns.x %}blk{% endset %}{{ ns.x }}", "{%- set a = 'b' -%} {{ a }}", "{% set d2 = dict(a=1, b=2) %}{{ d2 }}", "{% set d2 = dict([['a', 1]], c=3) %}{{ d2 }}", "{% set x = {'k': d} %}{{ x.k.b }}", "{% set range = 3 %}{{ range }}", "{% set ns = namespace(a=1) %}{% set b = ns %}{% set b.a = 9 %}{{ ns.a }}",
    "{% set a = true %}{% set a = not a %}{{ a }}", "{% set a = [] %}{% set a = a + ['x'] %}{{ a }}", "{% set a = {} %}{% set a = dict(a, y=1) %}{{ a }}")
add("set error", "{% set a.b = 1 %}", "{% set d.x = 1 %}", "{% set a, b = 1 %}", "{% set 1 = 2 %}", "{% set a %}", "{% set a = %}", "{% set %}", "{% set a b %}", "{% set true = 1 %}", "{{ namespace(1) }}")
add("macro", "{% macro f() %}x{% endmacro %}{{ f() }}{{ f() }}", "{% macro f(a, b=2, c='z') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, 5) }}{{ f(1, c=7) }}{{ f(c=1, a=2) }}{{ f() }}", "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}{{ f(none) }}", "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f() %}{{ caller() }}!{% endmacro %}{% call f() %}hi {{ n }}{% endcall %}",
    "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b=5) f() %}{{ a }}-{{ b }}{% endcall %}", "{% macro f() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ f() }}{{ q }}", "{% macro f() %}{{ later }}{% endmacro %}{% set later = 'L' %}{{ f() }}", "{% macro f() %}{{ n }}{{ s }}{% endmacro %}{{ f() }}", "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}", "{% macro f(x) %}{{ x|upper }}{% endmacro %}{{ f('a')|lower }}{{ f('a') + 'b' }}{{ f('a')|length }}", "{{ f is defined }}{% macro f() %}{% endmacro %}{{ f is defined }}{{ f.name }}{{ f is callable }}",
    "{% macro f(a) -%}\n  <{{ a }}>\n{%- endmacro %}\n{{ f(1) }}\n{{ f(2) }}", "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'a': 3, 'b': 4}) }}{{ f(5, *[6]) }}", "{% set x = 'top' %}{% macro f() %}{{ x }}{% endmacro %}{% for x in l %}{{ f() }}{% endfor %}", "{% for i in l %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}", "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro f(items) %}{% for i in items %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}{% endmacro %}[{{ f(l) }}]", "{% macro f(d, depth=0) %}{% for k, v in d.items() %}{{ '  ' * depth }}{{ k }}{% if v is mapping %}\n{{ f(v, depth + 1) }}{% else %}: {{ v }}\n{% endif %}{% endfor %}{% endmacro %}{{ f({'a': {'b': 1, 'c': {'d': 2}}, 'e': 3}) }}",
    "{% macro f(a=none) %}{{ a is none }}{% endmacro %}{{ f() }}{{ f(1) }}", "{% macro f(a) %}{% if a %}yes{% endif %}{% endmacro %}{% if f(0) %}T{% else %}F{% endif %}", "{% macro f() %}{% endmacro %}[{{ f() }}]", "{% macro f(x) %}{{ x }}{% endmacro %}{% set g = f %}{{ g(3) }}", "{% macro f(x) %}{{ f.name }}{{ f.arguments }}{% endmacro %}{{ f(1) }}", "{% set ns = namespace(n=0) %}{% macro inc() %}{% set ns.n = ns.n + 1 %}{% endmacro %}{{ inc() }}{{ inc() }}{{ ns.n }}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}")
add("macro error", "{% macro f() %}{% endmacro %}{{ f(1) }}", "{% macro f() %}{% endmacro %}{{ f(a=1) }}", "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}", "{% macro f(a) %}{{ a.b.c }}{% endmacro %}{{ f() }}", "{% macro f(a %}{% endmacro %}", "{% macro f() %}", "{% macro %}{% endmacro %}", "{% macro f(a=1, b) %}{% endmacro %}", "{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}", "{% call 1 %}{% endcall %}", "{{ f() }}")
add("block", "{% filter upper %}a{{ n }}b{% endfilter %}", "{% filter replace('a', 'x')|upper %}abc{% endfilter %}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}", "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 5 %}{% with a=1, b=a %}{{ b }}{% endwith %}", "{% generation %}x{{ n }}{% endgeneration %}", "a\n{% generation %}\nx\n{% endgeneration %}\nb", "{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% generation %}{% set a = 1 %}{{ a }}{% endgeneration %}{{ a }}", "{% filter trim %}\n  x  \n{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% for i in l %}{% with j=i %}{% if j == 1 %}{% break %}{% endif %}{{ j }}{% endwith %}{% endfor %}")
expressions("function", "range(3)|list", "range(1, 3)|list", "range(0, 10, 4)|list", "range(3, 0, -1)|list", "range(-1)|list", "dict(a=1)", "dict()", "dict(d, z=1)", "dict({'a': 1}, **{'b': 2})", "namespace(a=1).a", "strftime_now('%Y-%m-%d')", "strftime_now('%d %b %Y')", "strftime_now('%A %B %H:%M:%S %j %y %p %I %%')", "strftime_now('%-d/%-m')", "range(true)|list", "strftime_now is defined", "raise_exception is defined")
add("function", "{% set j = joiner(', ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% if nope is defined %}{{ nope() }}{% endif %}ok")
expressions("function error", "range()", "range('a')", "range(0, 1, 0)", "raise_exception('no')", "raise_exception()", "nope()", "range(1.5)")
add("syntax error", "{{ }}", "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}", "{{ [1, }}", "{{ {'a' 1} }}", "{% if %}{% endif %}", "{% if t %}", "{% endif %}", "{% else %}", "{{ 'a }}", "{{ s", "{% if t", "{# x", "{% raw %}x", "{% nope %}", "{{ s | }}", "{{ s is }}", "{{ 1 2 }}", "{{ s. }}", "{{ a ? b }}", "{{ $ }}", "{% if t %}{% endfor %}", "{% for i in l %}{% endif %}", "{{ s[ }}", "{{ f(a=1, 2) }}", "{{ not }}", "{% %}", "{{ '\\x4' }}", "{% include 'x' %}x", "{% extends 'x' %}", "{% import 'x' as y %}", "{{ 08 }}", "{% if t %}{% elif %}{% endif %}", "{{ a..b }}", "{{ {1} }}", "{% set x = 1 %}{{ x(}}")

# Whole templates in the styles that are in use, in our own words
STYLES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml with a default system line": "{% for m in messages %}\n{% if loop.first and m.role != 'system' %}\n{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}\n{%- endif %}\n{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "instruct tags": "{{ bos_token }}{% set ns = namespace(sys='') %}{% if messages[0]['role'] == 'system' %}{% set ns.sys = messages[0]['content'] | trim + '\\n\\n' %}{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' ~ (ns.sys if loop.first else '') ~ m['content'] ~ ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' ~ m['content'] ~ eos_token }}{% endif %}{% endfor %}",
    "turns": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('system role is not supported') }}{% endif %}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
    "headers, date and tools": "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now('%d %b %Y') %}\n    {%- else %}\n        {%- set date_string = '26 Jul 2024' %}\n    {%- endif %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n{{- 'Today: ' + date_string + '\\n\\n' }}\n{%- if tools is not none and tools is defined %}\n    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n        {{- '\\n\\n' }}\n    {%- endfor %}\n{%- endif %}\n{{- system }}\n{{- '<|eot_id|>' }}\n{%- for message in messages %}\n    {%- if 'tool_calls' in message %}\n        {%- if not message.tool_calls|length == 1 %}\n            {{- raise_exception('one tool call at a time') }}\n        {%- endif %}\n        {%- set call = message.tool_calls[0].function %}\n        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n        {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}\n        {{- call.arguments | tojson }}\n        {{- '}<|eot_id|>' }}\n    {%- elif message.role == 'tool' or message.role == 'ipython' %}\n        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}\n        {%- if message.content is mapping or message.content is iterable %}\n            {{- message.content | tojson }}\n        {%- else %}\n            {{- message.content }}\n        {%- endif %}\n        {{- '<|eot_id|>' }}\n    {%- else %}\n        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    "content in parts": "{%- for m in messages -%}\n{{ '<' ~ m.role ~ '>' }}\n{%- if m.content is string -%}{{ m.content }}{%- else -%}\n{%- for part in m.content -%}{%- if part['type'] == 'image' -%}<image>{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}\n{{ '</' ~ m.role ~ '>' }}{{ '\\n' }}\n{%- endfor -%}",
    "macro over a schema": "{%- macro kind(p) -%}{%- if p.type is string -%}{{ p.type }}{%- elif p.type is iterable -%}{{ p.type|join(' | ') }}{%- else -%}any{%- endif -%}{%- endmacro -%}\n{%- for t in tools %}{% set f = t.function %}\n// {{ f.description }}\ntype {{ f.name }} = (_: {\n{%- for name, p in f.parameters.properties.items() %}\n{{ name }}{{ '' if name in f.parameters.required else '?' }}: {{ kind(p) }},\n{%- endfor %}\n}) => any;\n{% endfor %}",
}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Add two numbers", "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": ["number", "null"]}}, "required": ["a"]}}}]
CALLS = [{"role": "user", "content": "Add 1 and 2 \u00e9"},
         {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2.5}}}]},
         {"role": "tool", "content": "3.5"}, {"role": "assistant", "content": " It is 3.5. "}]
PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}, {"role": "assistant", "content": "A cat"}]
for name, source in STYLES.items():
    for messages in (CHAT, CHAT[1:], CALLS, PARTS, [CHAT[1], CHAT[1]]):
        for extra in ({"add_generation_prompt": True}, {"add_generation_prompt": False, "tools": TOOLS}):
            variables = {"messages": messages, "bos_token": "<s>", "eos_token": "</s>", "tools": None, **extra}
            CASES.append({"group": "style: " + name, "template": source, "variables": variables})


def main():
    env = environment()
    out, skipped = [], 0
    for case in CASES:
        variables = dict(DATA, **case["variables"])
        row = {"group": case["group"], "template": case["template"]}
        if case["variables"]:
            row["variables"] = case["variables"]
        try:
            row["output"] = env.from_string(case["template"]).render(**variables)
            row["output"].encode("utf-8")
            if " object at 0x" in row["output"] or "<function" in row["output"] or "<built-in" in row["output"]:
                skipped += 1
                continue
        except Exception as error:  # what the template raises, whatever it is
            row["error"] = type(error).__name__
            row.pop("output", None)
        if ("error" in row) != ("error" in case["group"]) and not case["group"].startswith("style"):
            print(f"{case['group']}: {case['template']!r}: {row.get('error', row.get('output'))!r}", file=sys.stderr)
        out.append(row)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in out)
    variables = json.dumps(DATA, ensure_ascii=False)
    print(f'{{"jinja2": "{jinja2.__version__}",\n"variables": {variables},\n"cases": [\n{lines}\n]}}')
    print(f"{len(out)} cases, {skipped} left out (they print addresses)", file=sys.stderr)


if __name__ == "__main__":
    main()
