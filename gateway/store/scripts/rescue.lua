-- rescue: empties lanes that no carrier serves any more (a route was removed, or has fewer carriers than before).
--
-- ARGV   settings, most messages to look at, number of carriers, then per carrier its name and one of its routes, then
--        lanes
-- reply  {token, moved, failed, more (0/1), to decide again: id, record as it was, reason, …}
--        To decide again: no carrier has accepted a part; it starts at the route's first carrier, and due = token = now
--        + 5 s, at which instant another take may get it.
--        Moved: pinned to a carrier that is still there, to a lane that it serves.
--        Failed: pinned to a carrier that is gone.
-- Idempotent: what was looked at has left the lane, or waits there under its token.

local rescue_

local function rescue_pinned(r, delayed)
  local route = rescue_.routes[carrier_of(r)]
  if not route then
    r.due = 0
    refused(r, State.FAILED, Reason.PARTIAL, 0)
    rescue_.failed = rescue_.failed + 1
    return
  end
  replace(r, route, sub(r.raw, permission_at(r) + 1, permission_at(r) + r.permission_len))
  if delayed then delay(r, r.due) else push_tail(r) end
  touch(r)
  rescue_.moved = rescue_.moved + 1
end

local function rescue_one(r, delayed)
  if now > r.expires then
    r.due = 0
    ended(r, State.EXPIRED, Reason.EXPIRED, 0)
  elseif r.pinned == 1 then
    rescue_pinned(r, delayed)
  else
    local list = rescue_.redecide
    list[#list + 1] = r.id
    list[#list + 1] = r.raw
    list[#list + 1] = r.state == State.QUEUED and Reason.NONE or r.reason
    r.place, r.attempts = 0, 0
    delay(r, rescue_.token)
    touch(r)
  end
end

-- Rescue what is ready: an entry counts when its record says so; one that was pinned while it waited here moves to its
-- carrier's lane.
local function rescue_ready(lane)
  local accounts = call('ZRANGE', P .. 'l:' .. lane, 0, -1)
  for i = 1, #accounts do
    if rescue_.room <= 0 then return end
    local key = queue_key(lane, accounts[i])
    local ids = call('LRANGE', key, 0, rescue_.room - 1)
    rescue_.room = rescue_.room - #ids
    load(ids)
    for k = 1, #ids do
      local r = records[ids[k]]
      if r and r.state == State.QUEUED and r.due <= now then
        if lane_of(r) == lane then rescue_one(r, false) elseif r.pinned == 1 then push_tail(r) end
      end
    end
    rescue_.trims[#rescue_.trims + 1] = {lane, accounts[i], #ids}
  end
end

-- Rescue what is delayed, except what is being decided at the moment.
local function rescue_delayed(lane)
  if rescue_.room <= 0 then return end
  local key, ids, dues = P .. 'y:' .. lane, {}, {}
  local function read_range(from, to)
    local found = call('ZRANGE', key, from, to, 'BYSCORE', 'LIMIT', 0, max(rescue_.room - #ids, 0), 'WITHSCORES')
    for i = 1, #found, 2 do
      ids[#ids + 1] = found[i]
      dues[#ids] = tonumber(found[i + 1])
    end
  end
  read_range('-inf', now)
  read_range('(' .. rescue_.token, '+inf')
  if #ids == 0 then return end
  rescue_.room = rescue_.room - #ids
  load(ids)
  spread('ZREM', key, ids)
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and r.state <= State.QUEUED and r.due == dues[i] then rescue_one(r, true) end
  end
end

local function rescue(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NUMBER, NUMBER}, {NAME})
  if 3 + 2 * args[3] > #args then error('malformed: carriers') end
  rescue_ = {
    token = now + TOKEN_LIFE, room = tonumber(args[2]), moved = 0, failed = 0, redecide = {}, routes = {}, trims = {},
  }
  local from = 4 + 2 * args[3]
  for i = 4, from - 1, 2 do rescue_.routes[args[i]] = args[i + 1] end
  for i = from, #args do
    rescue_ready(args[i])
    rescue_delayed(args[i])
  end
  for i = 1, #rescue_.trims do
    local lane, account, count = unpack_(rescue_.trims[i])
    local key = queue_key(lane, account)
    call('LTRIM', key, count, -1)
    if call('EXISTS', key) == 0 then call('ZREM', P .. 'l:' .. lane, account) end
  end
  commit()
  for i = from, #args do
    if call('EXISTS', P .. 'l:' .. args[i], P .. 'y:' .. args[i]) == 0 then
      call('SREM', P .. 'lanes', args[i])
      call('DEL', P .. 't:' .. args[i])
    end
  end
  return {rescue_.token, rescue_.moved, rescue_.failed, rescue_.room <= 0 and 1 or 0, rescue_.redecide}
end
