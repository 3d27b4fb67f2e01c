-- The parts of a message at its carrier, flat: p[3k+1] state, p[3k+2] hour of the id map, p[3k+3] the carrier's id;
-- p.done[3k+1] the done date by the carrier's clock, in seconds, where it gave one.

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

-- Return the parts anew, as another carrier splits the message. Done dates of their copies stay.
local function resplit(p, total)
  local fresh = fresh_parts(total)
  fresh.done = p.done
  return fresh
end

-- Count the parts that a carrier accepted, whatever came after.
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

-- Copies of parts that may be on the wire more than once, flat: c[k] the part, c[k+1] its state, c[k+2] hour of the id
-- map, c[k+3] lease, c[k+4] carrier, c[k+5] the carrier's id; c.excerpt: names how the text begins (Hasher.excerpt). A
-- part that was written once has no copies; the parts say all about it.
local function copies_of(r)
  if r.copies then return r.copies end
  local c = {excerpt = ''}
  r.copies = c
  if r.copies_len == 0 then return c end
  local raw, pos, k = r.raw, copies_at(r) + 1, 1
  local last, carrier_len, id_len = pos + r.copies_len, nil, nil
  c.excerpt, pos = read('>Bc0', raw, pos)
  while pos < last do
    c[k], c[k + 1], c[k + 2], c[k + 3], carrier_len, id_len, pos = read(Format.COPY, raw, pos)
    c[k + 4], c[k + 5] = sub(raw, pos, pos + carrier_len - 1), sub(raw, pos + carrier_len, pos + carrier_len + id_len - 1)
    pos, k = pos + carrier_len + id_len, k + 6
  end
  return c
end

-- Tell whether this part (any, when nil) has copies.
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

-- Return where the unanswered copy of a part under the present lease is; nil when there is none.
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

-- Enter the part in flight as a copy when news of another copy of it arrive. Call it before they are applied.
local function note_in_flight(r, p, index)
  if r.state ~= State.SENDING or p[index * 3 + 1] ~= Part.PENDING or own_copy(r, index) then return end
  add_copy(r, index, Part.UNKNOWN, 0, carrier_of(r), '')
end

-- Close the lease: what is not answered by now was never written.
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

-- Set a part to what its copies say together: one that is delivered wins; a failure counts when no other copy is open.
-- A part without copies stays as it is.
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

-- Tell whether a copy of a part that no carrier is known to have may be on the wire.
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

-- Make each lost part a copy, before the message becomes another carrier's: where it was lost must stay known.
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

-- Make the carrier that has accepted it the message's carrier, when it was last handed to another. (Parts without
-- copies are at the latter.)
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

-- Return the latest of the carrier's dates in seconds; 0 = none.
local function latest(p)
  local at = 0
  for _, second in pairs(p.done or {}) do at = max(at, second) end
  return at
end

-- Count the parts that are still to be sent.
local function open_parts(r)
  if r.pinned == 0 then return max(r.segments, 1) end
  local p = parts_of(r)
  return max(#p / 3 - accepted_in(p), 1)
end

-- Tell whether nothing of it can have reached the recipient.
local function untouched(r)
  if r.resent > 0 and #copies_of(r) > 0 then return false end
  local p = parts_of(r)
  for k = 1, #p, 3 do
    if p[k] ~= Part.PENDING then return false end
  end
  return true
end

-- Return the state that the receipts decide: a failed part does at once, else every part must have its receipt; nil =
-- open.
local function verdict_of(p)
  local worst, all = 0, #p > 0
  for k = 1, #p, 3 do
    if p[k] < Part.DELIVERED then all = false else worst = max(worst, p[k]) end
  end
  if worst == Part.UNDELIVERED then return State.UNDELIVERED end
  if worst == Part.EXPIRED then return State.EXPIRED end
  return all and State.DELIVERED or nil
end
