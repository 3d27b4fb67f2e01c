-- References: what accounts call their messages, for 72 hours.
--
-- A reference has 16 octets: 8 name account and client_ref, 8 the recipient. In d:<day> the first 8 are the field; its
-- value lists the other 8 and the id of each message, 24 octets. When an account gives thousands the same name that
-- list is full; each later one has a field of its own, the whole reference.

local REFERENCE_KEPT = 72 * 3600 * 1000
local LISTED = 64 * 24

local function today()
  return floor(now / 86400000)
end

local function fresh_enough(id)
  return read('>I6', id) > now - REFERENCE_KEPT
end

-- Look up references in one day: known[reference] = id, lists[name] = value as stored.
local function look_in(key, references, known, lists)
  local names, over = {}, {}
  for i = 1, #references do names[i] = sub(references[i], 1, 8) end
  local values = spread_read('HMGET', key, names)
  for i = 1, #references do
    local reference, list = references[i], values[i]
    lists[names[i]] = list or nil
    if list then
      local rest = sub(reference, 9)
      for from = 1, #list, 24 do
        if sub(list, from, from + 7) == rest then known[reference] = sub(list, from + 8, from + 23) end
      end
      if not known[reference] and #list >= LISTED then over[#over + 1] = reference end
    end
  end
  if #over > 0 then
    values = spread_read('HMGET', key, over)
    for i = 1, #over do known[over[i]] = values[i] or nil end
  end
end

-- Return reference -> id within the last 72 h, from the hashes of five days (tomorrow's exists when the clock was set
-- back), and today's lists, for write_references.
local function known_references(references)
  local known, lists, today_ = {}, {}, today()
  if #references == 0 then return known, lists end
  for day = today_ - 3, today_ + 1 do
    local key, there = P .. 'd:' .. day, {}
    if call('EXISTS', key) == 1 then look_in(key, references, known, there) end
    if day == today_ then lists = there end
  end
  for reference, id in pairs(known) do
    if not fresh_enough(id) then known[reference] = nil end
  end
  return known, lists
end

-- Write new references. fresh: reference, id, …; lists: today's, from known_references.
local function write_references(fresh, lists)
  if #fresh == 0 then return end
  local puts, places = {}, {}
  for i = 1, #fresh, 2 do
    local name, n = sub(fresh[i], 1, 8), #puts
    local place = places[name]
    local list = place and puts[place] or lists[name] or ''
    if #list >= LISTED then
      puts[n + 1], puts[n + 2] = fresh[i], fresh[i + 1]
    elseif place then
      puts[place] = list .. sub(fresh[i], 9) .. fresh[i + 1]
    else
      puts[n + 1], puts[n + 2] = name, list .. sub(fresh[i], 9) .. fresh[i + 1]
      places[name] = n + 2
    end
  end
  local key = P .. 'd:' .. today()
  spread('HSET', key, puts)
  call('EXPIRE', key, 4 * 86400)
end
