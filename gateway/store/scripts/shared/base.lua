-- The ground of every function: short names, the partition's tag P, the instant `now` (ms UTC), the settings.
--
-- The shape of every function is: begin, read, decide, commit. Nothing is written before commit, so an error on the way
-- leaves everything as it was. (The libraries of Lua are not there yet while a library loads: hence `begin`.)

local call, sub, byte, char, find, floor, max, min, concat, pack, read, unpack_
local P, now, settings

local function begin_names()
  call, sub, byte, char, find = redis.call, string.sub, string.byte, string.char, string.find
  floor, max, min, concat = math.floor, math.max, math.min, table.concat
  pack, read, unpack_ = struct.pack, struct.unpack, unpack
end

-- Settings: the retention times in ms (events, resends: counts).
local function read_settings(packed)
  local id_map, finished, refused, receipt, hold, parked, orphan, events, resends = read(Format.SETTINGS, packed)
  return {
    id_map = id_map, finished = finished * 1000, refused = refused * 1000, receipt = receipt * 1000,
    hold = hold * 1000, parked = parked * 1000, orphan = orphan * 1000, events = events, resends = resends,
  }
end

-- What an argument must be: a number of octets, or one of these.
local NUMBER, NAME, SOME, ANY = -1, -2, -3, -4 -- digits; 1 to 255 octets; not empty; whatever it is

local function fits(arg, want)
  if want >= 0 then return #arg == want end
  if want == NUMBER then return #arg <= 16 and find(arg, '^%d+$') ~= nil end
  if want == NAME then return #arg > 0 and #arg < 256 end
  return want == ANY or #arg > 0
end

-- Nothing is rolled back, so a function looks at all its arguments before its first write: `fixed` ones, then, when `each`
-- is given, any number of items of that shape.
local function expect(args, fixed, each)
  local n, k, m = #args, #fixed, each and #each or 1
  if n < k or (n > k and not each) or (n - k) % m ~= 0 then error('malformed: ' .. n .. ' arguments') end
  for i = 1, n do
    local want = fixed[i] or each[(i - k - 1) % m + 1]
    if not fits(args[i], want) then error('malformed: argument ' .. i) end
  end
end

-- A command with a long list of arguments, cut since Lua's unpack fails near 8,000 values. 3,960 divides by 2 and 3.
-- Answers what the last one answered.
local function spread(command, key, list)
  local n, reply = #list, nil
  for from = 1, n, 3960 do
    reply = call(command, key, unpack_(list, from, min(from + 3959, n)))
  end
  return reply
end

local function spread_read(command, key, list)
  local n = #list
  if n <= 3960 then return call(command, key, unpack_(list)) end
  local out = {}
  for from = 1, n, 3960 do
    local some = call(command, key, unpack_(list, from, min(from + 3959, n)))
    for i = 1, #some do out[from + i - 1] = some[i] end
  end
  return out
end

local function hex(octets)
  return string.format('%02x%02x%02x%02x', byte(octets, 1, 4))
end

-- list = groups[key], made when it is missing
local function group(groups, key)
  local list = groups[key]
  if not list then
    list = {}
    groups[key] = list
  end
  return list
end
