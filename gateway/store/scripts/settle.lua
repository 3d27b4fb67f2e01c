-- settle: ends the run of a claimed request: stores its answer for repeats, or lets the next repeat run it again.
--
-- ARGV   per claim: name, base of its ids (16 octets each), sealed answer ('' = none; the next repeat runs it)
-- reply  1
-- Idempotent: what another base has claimed since, what is gone, and what has an answer stay as they are. When a runner
-- that was thought dead runs too, the first answer stays: a client may have received it.

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
