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

-- Nothing of it is left to be sent.
local function whole(r)
  if r.pinned == 0 then return false end
  local p = parts_of(r)
  return #p > 0 and accepted_in(p) * 3 == #p
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
  if r.resent == 1 then return false end
  local p = parts_of(r)
  for k = 1, #p, 3 do
    if p[k] ~= Part.PENDING then return false end
  end
  return true
end

-- When every part has its receipt: the worst of them; else nil.
local function verdict_of(p)
  local worst = 0
  for k = 1, #p, 3 do
    if p[k] < Part.DELIVERED then return nil end
    worst = max(worst, p[k])
  end
  if worst == Part.UNDELIVERED then return State.UNDELIVERED end
  if worst == Part.EXPIRED then return State.EXPIRED end
  return State.DELIVERED
end
