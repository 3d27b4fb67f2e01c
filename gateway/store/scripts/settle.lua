-- settle: the end of a claimed request: its answer is kept for repeats, or nobody runs it any more.
--
-- ARGV  of every claim: name, base of its ids (16 octets each), sealed answer ('' = not kept: the next one runs it again)
-- reply 1
-- Idempotent. What another base has claimed since, what is gone, and what has an answer stays as it is: two may have run
-- it, one of them thought dead, and the first answer is the one that somebody may have heard.

local function settle(keys, args)
  begin(keys)
  expect(args, {}, {16, 16, ANY})
  for i = 1, #args, 3 do
    local key, base, answer = P .. 'j:' .. args[i], args[i + 1], args[i + 2]
    local kept = call('GET', key)
    if kept and sub(kept, 17, 32) == base and #kept < 34 + byte(kept, 33) then
      call('SET', key, claim_value(sub(kept, 1, 16), base, '', answer), 'KEEPTTL')
    end
  end
  return 1
end
