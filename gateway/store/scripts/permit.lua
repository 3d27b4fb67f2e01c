-- permit: a fresh decision for a message handed back by take: permitted, deferred, held or refused.
--
-- ARGV  settings, then per message: id, token, state, reason, due, expires, checks, route, permission (packed),
--       what else policy said (packed; '' = nothing)
-- reply one 1 or 0 per message: 0 when it is not waiting under that token (any more), or when it would be queued under an
--       epoch that is over: the gate would hand it back at once, and so round and round. It comes back when the token ends.
-- Idempotent: carrying it out changes due, and so uses the token up.

-- Reservations under caps that the new permission does not have are given back.
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
    local r, token, state, reason = records[args[i]], tonumber(args[i + 1]), tonumber(args[i + 2]), tonumber(args[i + 3])
    local opens, _, epoch = read('>I8I8I4', args[i + 8])
    if #args[i + 9] > Size.RULED_STEP_OCTETS then error('malformed: ruling') end
    if (#args[i + 8] - Size.PERMISSION_SIZE) % Size.CAP_SIZE ~= 0 then error('malformed: permission') end
    local good = r and r.state <= State.QUEUED and token > 0 and r.due == token
      and (state ~= State.QUEUED or epoch >= (flags.epoch or 0))
    if good then
      local due, expires, route, permission = tonumber(args[i + 4]), tonumber(args[i + 5]), args[i + 7], args[i + 8]
      leave(r)
      give_back(r, permission)
      if route ~= '' and route ~= route_of(r) then r.place, r.attempts = 0, 0 else route = route_of(r) end
      replace(r, route, permission)
      if expires < r.expires then schedule_sweep(r.id, expires) end
      r.expires, r.checks = expires, tonumber(args[i + 6])
      if state == State.REJECTED then
        ended(r, state, reason, 0)
        if r.final == 1 then
          r.due = now + settings.refused
          schedule_sweep(r.id, r.due)
        end
      else
        move(r, state, reason)
      end
      annotate(r, args[i + 9])
      if state == State.HELD then
        held[#held + 1] = accepted_at(r)
        held[#held + 1] = r.id
      elseif state == State.QUEUED and opens <= now then
        push_tail(r)
      elseif state == State.QUEUED then
        delay(r, opens) -- the decider's clock is ahead of the store's
      elseif state ~= State.REJECTED then
        delay(r, due)
      end
    end
    reply[#reply + 1] = good and 1 or 0
  end
  commit()
  return reply
end
