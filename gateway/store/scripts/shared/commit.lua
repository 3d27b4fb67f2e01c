-- The writer: what a call has gathered is written in as few commands as there are keys.

local mapped, mapped_hours, id_givers, listed, closed, held
local in_flight_by_recipient, arrived -- see proof.lua and parked.lua

local function begin(keys, args)
  if not call then begin_names() end
  P, now = keys[1], 0
  now = clock()
  if args then settings = read_settings(args) end
  records, dirty, deleted = {}, {}, {}
  pushes, delays, undelays = {}, {}, {}
  events, event_summaries, wheel, releases, unheld, held = {}, {offset = 0}, {}, {}, {}, {}
  mapped, mapped_hours, id_givers, listed, closed = {}, {}, {}, {}, {}
  rules, caps, reserved, waiting = {}, {}, {}, {}
  in_flight_by_recipient, arrived = nil, nil
end

-- Tell whether a field of x:<owner> is the count of a lease's open messages (n<lease>), not the lease itself.
local function is_open_count(field)
  return byte(field) == 110
end

-- Count answered messages off their leases; a lease is deleted with its last one.
local function write_closed(owner)
  local key = P .. 'x:' .. owner
  for lease, n in pairs(closed) do
    if call('HINCRBY', key, 'n' .. lease, -n) <= 0 then call('HDEL', key, lease, 'n' .. lease) end
  end
end

-- Merge the values of an id that several messages to one recipient were given. Which one a receipt means is decided
-- when it comes (progress, owner_of).
local function merge_values(old, new)
  local id, others = sub(new, 1, 16), ''
  for from = 1, #old, 17 do
    if sub(old, from, from + 15) ~= id then others = others .. sub(old, from, from + 16) end
  end
  return sub(others, -17 * 3) .. new
end

local commit
do -- a block of its own: Lua allows 200 locals per block

local function write_records()
  local buckets = {}
  for i = 1, #dirty do
    local r = dirty[i]
    local list = group(buckets, sub(r.id, 1, 4))
    local n = #list
    list[n + 1], list[n + 2] = r.id, value_of(r)
  end
  for bucket, list in pairs(buckets) do spread('HSET', P .. 'm:' .. hex(bucket), list) end
end

local function write_events()
  if #events > 0 then
    if followed() then
      -- The follower trims the stream behind what it has moved; what it has not seen yet must stay.
      call('XADD', P .. 'e', '*', 'd', concat(events), 't', now, 'v', concat(event_summaries))
    else
      call('XADD', P .. 'e', 'MAXLEN', '~', settings.events, '*', 'd', concat(events), 't', now)
    end
  end
end

local function write_wheel()
  for minute, list in pairs(wheel) do
    if spread('RPUSH', P .. 'w:' .. minute, list) == #list then call('ZADD', P .. 'wheel', minute, minute) end
  end
end

-- Take the reservations of messages that ended unsent out of their caps.
local function write_releases()
  for i = 1, #releases, 2 do
    local key, id = releases[i], releases[i + 1]
    local kept = call('GET', key)
    local at = kept and find(kept, id, 1, true)
    if at then
      kept = sub(kept, 1, at - 9) .. sub(kept, at + 16)
      if kept == '' then call('DEL', key) else call('SET', key, kept, 'KEEPTTL') end
    end
  end
end

-- Give the map of a new hour its expiry; forget hours whose map has expired.
local function new_hour(carrier, key)
  local hours = P .. 'h:' .. carrier
  call('EXPIRE', key, settings.id_map + 3600)
  local all = call('SMEMBERS', hours)
  for i = 1, #all do
    if call('EXISTS', P .. 'i:' .. carrier .. ':' .. all[i]) == 0 then call('SREM', hours, all[i]) end
  end
end

local function write_ids()
  local hour = floor(now / 3600000)
  for carrier in pairs(id_givers) do call('SADD', P .. 'named', carrier) end -- its answers bring ids
  for carrier, list in pairs(mapped) do
    local key, fields, places = P .. 'i:' .. carrier .. ':' .. hour, {}, {}
    for i = 1, #list, 2 do
      local first = places[list[i]]
      if first then list[i + 1] = merge_values(list[first + 1], list[i + 1]) end
      places[list[i]], fields[(i + 1) / 2] = i, list[i]
    end
    local known = spread_read('HMGET', key, fields)
    for i = 1, #fields do
      if known[i] then list[i * 2] = merge_values(known[i], list[i * 2]) end
    end
    spread('HSET', key, list)
    if call('SADD', P .. 'h:' .. carrier, hour) == 1 then new_hour(carrier, key) end
  end
end

-- List messages that may get a receipt whose id no answer brought, by carrier and recipient.
local function write_listed()
  for carrier, recipients in pairs(listed) do
    local key = P .. 'u:' .. carrier
    for recipient, ids in pairs(recipients) do
      local all = call('HGET', key, recipient) or ''
      for i = 1, #ids do
        if not find(all, ids[i], 1, true) then all = all .. ids[i] end
      end
      call('HSET', key, recipient, all)
    end
  end
end

function commit()
  if #dirty > 0 then write_records() end
  write_lanes()
  write_waiting()
  if #unheld > 0 then spread('ZREM', P .. 'held', unheld) end
  if #held > 0 then spread('ZADD', P .. 'held', held) end
  write_events()
  write_wheel()
  write_caps()
  if #releases > 0 then write_releases() end
  write_ids()
  write_listed()
end
end
