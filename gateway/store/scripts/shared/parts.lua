-- The parts of a message at its carrier, flat: p[3k+1] state, p[3k+2] hour of the id map, p[3k+3] the carrier's id;
-- p.done[3k+1] when the carrier was done with it, in seconds, by its own clock; where it said so.

local function parts_of(r)
  if r.parts then return r.parts end
  local raw, pos, p, k = r.raw, carrier_at(r) + r.carrier_len + 1, {}, 1
  local last = pos + r.parts_len
  while pos < last do
    p[k], p[k + 1], p[k + 2], pos = read('>BI4Bc0', raw, pos)
    if p[k] >= Size.DATED then
      p[k], p.done = p[k] - Size.DATED, p.done or {}
      p.done[k], pos = read('>I4', raw, pos)
    end
    k = k + 3
  end
  return p
end

local function fresh_parts(total)
  local p = {}
  for k = 1, total * 3, 3 do p[k], p[k + 1], p[k + 2] = Part.PENDING, 0, '' end
  return p
end

-- The parts anew, as another carrier splits the message. Dates that were told of their copies stay.
local function resplit(p, total)
  local fresh = fresh_parts(total)
  fresh.done = p.done
  return fresh
end

-- How many a carrier accepted, whatever came after.
local function accepted_in(p)
  local n = 0
  for k = 1, #p, 3 do
    if p[k] == Part.ACCEPTED or p[k] >= Part.DELIVERED then n = n + 1 end
  end
  return n
end

local function accepted_of(r)
  if not r.parts and r.parts_len == 0 then return 0 end
  return accepted_in(parts_of(r))
end

-- Copies of parts that may be on the wire more than once, flat: c[k] the part, c[k+1] its state there, c[k+2] hour of the
-- id map, c[k+3] lease, c[k+4] carrier, c[k+5] the carrier's id; c.mark: what an excerpt of the text must agree with.
-- A part that was written once has none: what is known of it stands in the parts alone.
local function copies_of(r)
  if r.copies then return r.copies end
  local c = {mark = ''}
  r.copies = c
  if r.copies_len == 0 then return c end
  local raw, pos, k = r.raw, copies_at(r) + 1, 1
  local last, carrier_len, id_len = pos + r.copies_len, nil, nil
  c.mark, pos = read('>Bc0', raw, pos)
  while pos < last do
    c[k], c[k + 1], c[k + 2], c[k + 3], carrier_len, id_len, pos = read(Format.COPY, raw, pos)
    c[k + 4], c[k + 5] = sub(raw, pos, pos + carrier_len - 1), sub(raw, pos + carrier_len, pos + carrier_len + id_len - 1)
    pos, k = pos + carrier_len + id_len, k + 6
  end
  return c
end

-- Whether this part (any, when nil) has copies of which each counts by itself.
local function copied(r, index)
  if r.resent == 0 then return false end
  local c = copies_of(r)
  for k = 1, #c, 6 do
    if not index or c[k] == index then return true end
  end
  return false
end

local function add_copy(r, index, state, hour, carrier, carrier_id)
  local c = copies_of(r)
  local n = #c
  c[n + 1], c[n + 2], c[n + 3], c[n + 4], c[n + 5], c[n + 6] = index, state, hour, r.lease % 4294967296, carrier, carrier_id
end

-- Where the copy of a part stands that was written under the present lease and is not answered; nil: there is none.
local function own_copy(r, index)
  local c, lease = copies_of(r), r.lease % 4294967296
  for k = 1, #c, 6 do
    if c[k] == index and c[k + 3] == lease and c[k + 1] == Part.UNKNOWN then return k end
  end
  return nil
end

local function remove_copy(r, at)
  for _ = 1, 6 do table.remove(copies_of(r), at) end
end

-- Something is heard of a copy of a part while another is in flight: that one is open as well, and so has a place in the
-- list from now on. To be called before the part is told.
local function note_in_flight(r, p, index)
  if r.state ~= State.SENDING or p[index * 3 + 1] ~= Part.PENDING or own_copy(r, index) then return end
  add_copy(r, index, Part.UNKNOWN, 0, carrier_of(r), '')
end

-- The lease is over: what is not answered by now was never written.
local function close_lease(r)
  if r.resent == 0 then return end
  local c, p, lease = copies_of(r), parts_of(r), r.lease % 4294967296
  for k = #c - 5, 1, -6 do
    if c[k + 3] == lease and c[k + 1] == Part.UNKNOWN then
      if p[c[k] * 3 + 1] == Part.UNKNOWN then p[c[k] * 3 + 1] = Part.PENDING end
      remove_copy(r, k)
    end
  end
  r.parts = p
end

-- What all copies of a part together say: one that is delivered wins; a failure counts when no other copy is open. A part
-- without copies is as it is told.
local function merge_copies(r, p, k)
  local c, index, any, alive, accepted, worst = copies_of(r), (k - 1) / 3, false, false, false, 0
  for i = 1, #c, 6 do
    if c[i] == index then
      local state = c[i + 1]
      any, alive = true, alive or state < Part.DELIVERED
      accepted = accepted or state ~= Part.UNKNOWN
      if state ~= Part.UNKNOWN and p[k + 2] == '' then p[k + 1], p[k + 2] = c[i + 2], c[i + 5] end
      if state == Part.DELIVERED then
        p[k] = state
        return
      end
      worst = max(worst, state)
    end
  end
  if not any then return end
  if worst > Part.DELIVERED and not alive then
    p[k] = worst
  elseif accepted then
    p[k] = Part.ACCEPTED
  else
    local lost = own_copy(r, index) and (r.state == State.UNKNOWN or r.state == State.SENDING)
    p[k] = lost and Part.UNKNOWN or Part.PENDING
  end
end

local function merge_all_copies(r, p)
  if r.resent == 0 then return end
  for k = 1, #p, 3 do merge_copies(r, p, k) end
end

-- Whether a copy of something that no carrier is known to have may be on the wire.
local function unresolved(r)
  local p = parts_of(r)
  for k = 1, #p, 3 do
    if p[k] == Part.UNKNOWN then return true end
  end
  if r.resent == 0 then return false end
  local c, taken = copies_of(r), {}
  for k = 1, #c, 6 do taken[c[k]] = taken[c[k]] or c[k + 1] ~= Part.UNKNOWN end
  for _, known in pairs(taken) do
    if not known then return true end
  end
  return false
end

-- Where parts were lost must not be forgotten when it is told as of another carrier from now on: each becomes a copy.
local function keep_lost(r, p)
  for k = 1, #p, 3 do
    local index = (k - 1) / 3
    if p[k] == Part.UNKNOWN and not copied(r, index) then add_copy(r, index, Part.UNKNOWN, 0, carrier_of(r), '') end
  end
end

local function set_carrier(r, carrier)
  if carrier == carrier_of(r) then return end
  keep_lost(r, parts_of(r))
  r.carrier = carrier
end

-- The carrier that has it, when that is not the one it was last handed to. (Parts without copies are with that one.)
local function set_carrier_to_holder(r)
  if r.resent == 0 then return end
  local c, p, here, there = copies_of(r), parts_of(r), carrier_of(r), nil
  for k = 1, #p, 3 do
    if (p[k] == Part.ACCEPTED or p[k] >= Part.DELIVERED) and not copied(r, (k - 1) / 3) then return end
  end
  for k = 1, #c, 6 do
    if c[k + 1] ~= Part.UNKNOWN and p[c[k] * 3 + 1] then
      if c[k + 4] == here then return end
      there = there or c[k + 4]
    end
  end
  if there then set_carrier(r, there) end
end

-- The latest of the carrier's dates, in seconds; 0: it named none.
local function latest(p)
  local at = 0
  for _, second in pairs(p.done or {}) do at = max(at, second) end
  return at
end

-- Parts that a take still has to send.
local function open_parts(r)
  if r.pinned == 0 then return max(r.segments, 1) end
  local p = parts_of(r)
  return max(#p / 3 - accepted_in(p), 1)
end

-- Whether nothing of it can have reached the recipient.
local function untouched(r)
  if r.resent > 0 and #copies_of(r) > 0 then return false end
  local p = parts_of(r)
  for k = 1, #p, 3 do
    if p[k] ~= Part.PENDING then return false end
  end
  return true
end

-- What its receipts make of it: a failed part ends it at once; else every part must have its receipt; nil: not yet.
local function verdict_of(p)
  local worst, all = 0, #p > 0
  for k = 1, #p, 3 do
    if p[k] < Part.DELIVERED then all = false else worst = max(worst, p[k]) end
  end
  if worst == Part.UNDELIVERED then return State.UNDELIVERED end
  if worst == Part.EXPIRED then return State.EXPIRED end
  return all and State.DELIVERED or nil
end
