--- What a handful of right and wrong answers can tell, and what not.
-- Intervals are Wilson's (1927); a paired difference gets Agresti and Min's adjusted interval (2005) and McNemar's
-- exact test (1947). All at 95 %.
local statistics = {}

local Z = 1.959963984540054 -- the 97.5 % point of the normal distribution

--- Wilson's interval of a share.
-- @param right integer
-- @param n integer
-- @return { low, high }  both 0..1; { 0, 1 } where n is 0
function statistics.wilson(right, n)
  if n == 0 then return { 0.0, 1.0 } end
  local p, z2 = right / n, Z * Z
  local middle = (p + z2 / (2 * n)) / (1 + z2 / n)
  local half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
  return { math.max(0.0, middle - half), math.min(1.0, middle + half) }
end

--- Interval of the difference of two paired shares (Agresti and Min: half an answer more in each of four cells).
-- @param lost integer  right before, wrong now
-- @param gained integer  wrong before, right now
-- @param n integer  pairs
-- @return { low, high }
function statistics.paired(lost, gained, n)
  if n == 0 then return { -1.0, 1.0 } end
  local b, c, m = lost + 0.5, gained + 0.5, n + 2
  local delta = (c - b) / m
  local half = Z * math.sqrt(b + c - (c - b) ^ 2 / m) / m
  return { math.max(-1.0, delta - half), math.min(1.0, delta + half) }
end

--- McNemar's exact two-sided p: how likely so lopsided a split of the flips is by chance.
-- @param lost integer
-- @param gained integer
-- @return number  0..1
function statistics.mcnemar(lost, gained)
  local n, k = lost + gained, math.min(lost, gained)
  if n == 0 then return 1.0 end
  local log_choose, sum = 0.0, 0.0
  for i = 0, k do
    if i > 0 then log_choose = log_choose + math.log(n - i + 1) - math.log(i) end
    sum = sum + math.exp(log_choose - n * math.log(2))
  end
  return math.min(1.0, 2 * sum)
end

--- Mean, median, 95th percentile (linear between ranks) and total of a list of numbers.
-- @param values number[]
-- @return { mean, median, p95, total }  mean, median and p95 are nil where the list is empty
function statistics.summary(values)
  local sorted, total = {}, 0
  for i, v in ipairs(values) do
    sorted[i] = v
    total = total + v
  end
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return { total = 0 } end
  local function quantile(q)
    local at = 1 + q * (n - 1)
    local below = math.floor(at)
    local above = math.min(below + 1, n)
    return sorted[below] + (at - below) * (sorted[above] - sorted[below])
  end
  return { mean = total / n, median = quantile(0.5), p95 = quantile(0.95), total = total }
end

--- Precision, recall and F1 of each class and their plain mean, from a confusion matrix.
-- @param matrix table  matrix[gold][given] = count; what was given may be another label ("none")
-- @param labels string[]  the classes
-- @return table, number  { label = { precision, recall, f1, support } }, macro F1 over the classes that occur
function statistics.classes(matrix, labels)
  local classes, sum, occurring = {}, 0, 0
  for _, label in ipairs(labels) do
    local hit = matrix[label] and matrix[label][label] or 0
    local given, support = 0, 0
    for _, row in pairs(matrix) do given = given + (row[label] or 0) end
    for _, count in pairs(matrix[label] or {}) do support = support + count end
    local precision = given > 0 and hit / given or 0.0
    local recall = support > 0 and hit / support or 0.0
    local f1 = hit > 0 and 2 * precision * recall / (precision + recall) or 0.0
    classes[label] = { precision = precision, recall = recall, f1 = f1, support = support }
    if support > 0 then
      sum = sum + f1
      occurring = occurring + 1
    end
  end
  return classes, occurring > 0 and sum / occurring or 0.0
end

--- Matthews' correlation of a two-by-two table; 0 where a margin is empty.
-- @return number  -1..1
function statistics.mcc(tp, tn, fp, fn)
  local margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
  if margins == 0 then return 0.0 end
  return (tp * tn - fp * fn) / math.sqrt(margins)
end

return statistics
