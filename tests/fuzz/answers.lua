-- answers.lua - what a model wrote, a byte 0 and the right answer: read as every kind of answer.
local answers = require "wane.answers"

return function(input)
  local text, gold = input:match("^([^\0]*)\0?(.*)$")
  local inside = answers.boxed(text)
  if inside then
    assert(inside == inside:match "^%s*(.-)%s*$" and inside ~= "", "not trimmed")
    assert(text:find(inside, 1, true), "not in the text")
  end
  for _, given in ipairs { text, inside } do
    local plain = answers.plain(given)
    assert(answers.plain(plain) == plain, "plain of plain")
    local choice = answers.choice(given)
    assert(choice == nil or choice >= 1 and choice <= 4, "a choice of four")
    answers.truth(given)
    local number, wanted = answers.number(given), answers.number(gold)
    if number then
      assert(number.value == number.value and math.abs(number.value) < math.huge, "not finite")
      assert(answers.same_number(number, number), "not itself")
      if wanted then assert(answers.same_number(number, wanted) == answers.same_number(wanted, number), "order") end
    end
    local f1, exact = answers.overlap(given, gold)
    assert(f1 >= 0 and f1 <= 1 and (not exact or f1 == 1), "f1")
    assert(f1 == answers.overlap(gold, given), "f1 depends on order")
  end
end
