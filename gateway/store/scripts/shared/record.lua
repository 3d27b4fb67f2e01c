-- Records: read once per call however often they are used, written once at commit.

local records, dirty, deleted

-- Return a record of the first format in today's (layout.upgraded).
local function upgraded(raw)
  local cut = Size.FORMER_HEAD - 2
  return sub(raw, 1, 2) .. char(Size.VERSION) .. sub(raw, 3, cut) .. '\0\0' .. sub(raw, cut + 1)
end

local function open(id, raw)
  if byte(raw, 3) < 128 then raw = upgraded(raw) end
  return {id, raw, false, false, false, false, '', false, read(Format.HEAD, raw)}
end

-- Load these ids (one HMGET per bucket); records[id] is then the record, or false.
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

-- Return the instant of acceptance: the one in its id.
local function accepted_at(r)
  return (read('>I6', r.id))
end

local function recipient_of(r)
  return sub(r.raw, Size.HEAD_SIZE + 1, Size.HEAD_SIZE + 16)
end

-- Return what names the recipient in the id map.
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

-- Return the carrier it was last handed to; '' before.
local function carrier_of(r)
  if r.carrier then return r.carrier end
  local from = carrier_at(r)
  return sub(r.raw, from + 1, from + r.carrier_len)
end

local function copies_at(r)
  return carrier_at(r) + r.carrier_len + r.parts_len
end

local function trail_of(r)
  return sub(r.raw, copies_at(r) + r.copies_len + 1) .. r.steps
end

-- Bound the timeline: its first step stays, the oldest of the others are dropped.
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

local function pack_copies(c)
  if #c == 0 and c.excerpt == '' then return '' end
  local out = {char(#c.excerpt) .. c.excerpt}
  for k = 1, #c, 6 do
    local carrier, id = c[k + 4], c[k + 5]
    out[#out + 1] = pack(Format.COPY, c[k], c[k + 1], c[k + 2], c[k + 3], #carrier, #id) .. carrier .. id
  end
  return concat(out)
end

-- Return the record's value as it is now. Call it once per record: it changes the lengths.
local function value_of(r)
  local raw, kept, at, steps = r.raw, permission_at(r), carrier_at(r), r.steps
  local parts_at = at + r.carrier_len
  local copies_from = parts_at + r.parts_len
  local trail_at = copies_from + r.copies_len
  local carrier = r.carrier or sub(raw, at + 1, parts_at)
  local parts = r.parts and pack_parts(r.parts) or sub(raw, parts_at + 1, copies_from)
  local trail = sub(raw, trail_at + 1)
  if #trail + #steps > 1000 then trail, steps = pruned(trail .. steps), '' end
  r.carrier_len, r.parts_len, r.trail_len = #carrier, #parts, #trail + #steps
  if r.copies or r.copies_len > 0 then
    local copies = r.copies and pack_copies(r.copies) or sub(raw, copies_from + 1, trail_at)
    r.copies_len = #copies
    parts = parts .. copies
  end
  if not r.bare then
    kept = at
  else
    if r.final == 0 and r.reserved == 1 then -- its caps may be given back
      kept = kept + r.permission_len
    else
      r.permission_len = 0
    end
    r.content_len = 0
  end
  return pack(Format.HEAD, unpack_(r, Size.FIRST, Size.LAST))
    .. sub(raw, Size.HEAD_SIZE + 1, kept) .. carrier .. parts .. trail .. steps
end

-- Replace route and permission, before anything else of the record changes.
local function replace(r, route, permission)
  local envelope_at = Size.ACCOUNT_AT + r.account_len + r.route_len
  r.raw = sub(r.raw, 1, Size.ACCOUNT_AT + r.account_len) .. route
    .. sub(r.raw, envelope_at + 1, envelope_at + r.envelope_len) .. permission
    .. sub(r.raw, permission_at(r) + r.permission_len + 1)
  r.route_len, r.permission_len = #route, #permission
end
