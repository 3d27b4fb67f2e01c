-- permit: carries out fresh decisions for messages that take handed back: permitted, delayed, held or refused.
--
-- ARGV   settings, then per message: id, token, state, reason, due, expires, checks, route, permission (packed),
--        details of the decision (packed; '' = none)
-- reply  per message 1 or 0; 0: it does not wait under this token, or it would be queued under an epoch that is over
--        (the gate would hand that back at once, again and again), or held for a restored backup that was released (it
--        would never be released again). The latter two come back when the token ends.
-- Idempotent: carrying out a decision changes due, and so uses the token up.

-- Release the reservations under caps that the new permission does not have.
local function give_back(r, permission)
  if r.reserved == 0 or not untouched(r) then return end
  local from = permission_at(r)
  if sub(r.raw, from + Size.PERMISSION_SIZE + 1, from + r.permission_len) == sub(permission, Size.PERMISSION_SIZE + 1) then
    return
  end
  for pos = from + Size.PERMISSION_SIZE + 1, from + r.permission_len, Size.CAP_SIZE do
    releases[#releases + 1] = cap_key(recipient_of(r), sub(r.raw, pos, pos + Size.CAP_SIZE - 1))
    releases[#releases + 1] = r.id
  end
  r.reserved = 0
end

local function permit(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE}, {16, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, ANY, SOME, ANY})
  local ids, reply = {}, {}
  load_flags()
  for i = 2, #args, 10 do ids[#ids + 1] = args[i] end
  load(ids)
  for i = 2, #args, 10 do
    local id, token, state, reason, due, expires, checks, route, permission, details = unpack_(args, i, i + 9)
    token, state, reason, expires = tonumber(token), tonumber(state), tonumber(reason), tonumber(expires)
    local r, opens, _, epoch = records[id], read('>I8I8I4', permission)
    if #details > Size.RULED_STEP_OCTETS then error('malformed: details of the decision') end
    if (#permission - Size.PERMISSION_SIZE) % Size.CAP_SIZE ~= 0 then error('malformed: permission') end
    local good = r and r.state <= State.QUEUED and token > 0 and r.due == token
      and (state ~= State.QUEUED or epoch >= (flags.epoch or 0))
      and (state ~= State.HELD or reason ~= Reason.RESTORED or flags.restored)
    if good then
      leave(r)
      give_back(r, permission)
      if route ~= '' and route ~= route_of(r) then r.place, r.attempts = 0, 0 else route = route_of(r) end
      replace(r, route, permission)
      if expires < r.expires then schedule_sweep(r.id, expires) end
      r.expires, r.checks = expires, tonumber(checks)
      if state == State.REJECTED then
        ended(r, state, reason, 0)
        if r.final == 1 then
          r.due = now + settings.refused
          schedule_sweep(r.id, r.due)
        end
      else
        move(r, state, reason)
      end
      annotate(r, details)
      if state == State.HELD then
        held[#held + 1] = accepted_at(r)
        held[#held + 1] = r.id
      elseif state == State.QUEUED and opens <= now then
        push_tail(r)
      elseif state == State.QUEUED then
        delay(r, opens) -- the decider's clock is ahead of the store's
      elseif state ~= State.REJECTED then
        delay(r, tonumber(due))
      end
    end
    reply[#reply + 1] = good and 1 or 0
  end
  commit()
  return reply
end
