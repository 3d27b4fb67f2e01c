-- Records: read once per call however often they are touched, written once at commit.

local records, dirty, gone

local function open(id, raw)
  return {id, raw, false, false, false, '', false, read($HEAD, raw)}
end

-- Read these ids (one HMGET per bucket); records[id] is then the record or false.
local function load(ids)
  local buckets = {}
  for i = 1, #ids do
    local id = ids[i]
    if records[id] == nil then
      records[id] = false
      local list = group(buckets, sub(id, 1, 4))
      list[#list + 1] = id
    end
  end
  for bucket, list in pairs(buckets) do
    local values = spread_read('HMGET', P .. 'm:' .. hex(bucket), list)
    for i = 1, #list do
      if values[i] then records[list[i]] = open(list[i], values[i]) end
    end
  end
end

local function touch(r)
  if not r.dirty then
    r.dirty = true
    dirty[#dirty + 1] = r
  end
end

-- The instant of its acceptance is the one in its id.
local function accepted_at(r)
  return (read('>I6', r.id))
end

local function recipient_of(r)
  return sub(r.raw, Size.HEAD_SIZE + 1, Size.HEAD_SIZE + 16)
end

-- What names the recipient in the id map.
local function short_of(r)
  return sub(r.raw, Size.HEAD_SIZE + 1, Size.HEAD_SIZE + 8)
end

local function account_of(r)
  return sub(r.raw, Size.ACCOUNT_AT + 1, Size.ACCOUNT_AT + r.account_len)
end

local function route_of(r)
  local from = Size.ACCOUNT_AT + r.account_len
  return sub(r.raw, from + 1, from + r.route_len)
end

local function permission_at(r)
  return Size.ACCOUNT_AT + r.account_len + r.route_len + r.envelope_len
end

local function carrier_at(r)
  return permission_at(r) + r.permission_len + r.content_len
end

-- The carrier it was last handed to; '' before.
local function carrier_of(r)
  if r.carrier then return r.carrier end
  local from = carrier_at(r)
  return sub(r.raw, from + 1, from + r.carrier_len)
end

local function trail_of(r)
  local from = carrier_at(r) + r.carrier_len + r.parts_len
  return sub(r.raw, from + 1) .. r.steps
end

-- The timeline is bounded: its first step stays, the oldest of the others go.
local function pruned(trail)
  local first = 8 + byte(trail, 8)
  local from = first + 1
  while #trail - from > 700 do from = from + 8 + byte(trail, from + 7) end
  return sub(trail, 1, first) .. sub(trail, from)
end

local function pack_part(p, k)
  local done, id = p.done and p.done[k], p[k + 2]
  if done then return pack('>BI4Bc0I4', p[k] + Size.DATED, p[k + 1], #id, id, done) end
  return pack('>BI4Bc0', p[k], p[k + 1], #id, id)
end

local function pack_parts(p)
  if #p == 3 then return pack_part(p, 1) end
  local out = {}
  for k = 1, #p, 3 do out[#out + 1] = pack_part(p, k) end
  return concat(out)
end

-- The record's value as it is now. Call once: it moves the lengths.
local function value_of(r)
  local raw, kept, at, steps = r.raw, permission_at(r), carrier_at(r), r.steps
  local parts_at = at + r.carrier_len
  local trail_at = parts_at + r.parts_len
  local carrier = r.carrier or sub(raw, at + 1, parts_at)
  local parts = r.parts and pack_parts(r.parts) or sub(raw, parts_at + 1, trail_at)
  local trail = sub(raw, trail_at + 1)
  if #trail + #steps > 1000 then trail, steps = pruned(trail .. steps), '' end
  r.carrier_len, r.parts_len, r.trail_len = #carrier, #parts, #trail + #steps
  if r.bare then
    r.permission_len, r.content_len = 0, 0
  else
    kept = at
  end
  return pack($HEAD, unpack_(r, Size.FIRST, Size.LAST))
    .. sub(raw, Size.HEAD_SIZE + 1, kept) .. carrier .. parts .. trail .. steps
end

-- The record with another route and permission, before anything else about it changes.
local function replace(r, route, permission)
  local envelope_at = Size.ACCOUNT_AT + r.account_len + r.route_len
  r.raw = sub(r.raw, 1, Size.ACCOUNT_AT + r.account_len) .. route
    .. sub(r.raw, envelope_at + 1, envelope_at + r.envelope_len) .. permission
    .. sub(r.raw, permission_at(r) + r.permission_len + 1)
  r.route_len, r.permission_len = #route, #permission
end
