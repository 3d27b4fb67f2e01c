-- claim: lets a request with an Idempotency-Key run once at a time, and replies its answer again for 24 h.
--
-- ARGV   owner (who would run it), then per claim: name, hash of the body, base of its ids (16 octets each)
-- reply  per claim: verdict (Claim), then the base that counts (CLAIMED), the sealed answer (DONE), or ''
--        CLAIMED: it does not run, or its runner is dead; the same base makes the same ids, so nothing happens twice.
-- Idempotent for the same owner and body.

local CLAIM_KEPT = 24 * 3600 * 1000

-- Tell whether the runner is dead. The caller is not the runner (it knows its own), nor is an earlier incarnation of
-- its node.
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
