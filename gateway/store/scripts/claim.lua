-- claim: a request with an Idempotency-Key runs once at a time, and its answer is given again for 24 h.
--
-- ARGV  owner (who would run it), then of every claim: name, hash of the body, base of its ids (16 octets each)
-- reply of every claim: verdict, and the base that counts (CLAIMED) or the sealed answer (DONE), else ''
--       CLAIMED: nobody ran it, or who ran it is gone: the same base makes the same ids, so nothing happens twice

local CLAIM_KEPT = 24 * 3600 * 1000

-- Whoever asks does not run it (it knows its own), and neither does an earlier incarnation of the same node.
local function runner_gone(runner, owner)
  local node = '^(.*)/'
  if runner == '' or runner == owner or string.match(runner, node) == string.match(owner, node) then return true end
  return now - tonumber(call('HGET', P .. 'b', runner) or 0) >= Size.DEAD_AFTER
end

local function claim(keys, args)
  begin(keys)
  expect(args, {NAME}, {16, 16, 16})
  local owner, reply = args[1], {}
  for i = 2, #args, 3 do
    local key, body, base = P .. 'j:' .. args[i], args[i + 1], args[i + 2]
    local kept, verdict, value = call('GET', key), Claim.CLAIMED, base
    if kept and now - read('>I6', kept, 17) < CLAIM_KEPT then
      local runs = 34 + byte(kept, 33)
      value = ''
      if sub(kept, 1, 16) ~= body then
        verdict = Claim.MISMATCH
      elseif #kept >= runs then
        verdict, value = Claim.DONE, sub(kept, runs)
      elseif runner_gone(sub(kept, 34, runs - 1), owner) then
        value = sub(kept, 17, 32)
        call('SET', key, claim_value(body, value, owner, ''), 'KEEPTTL')
      else
        verdict = Claim.RUNNING
      end
    else
      call('SET', key, claim_value(body, base, owner, ''), 'PX', CLAIM_KEPT)
    end
    reply[#reply + 1] = verdict
    reply[#reply + 1] = value
  end
  return reply
end
