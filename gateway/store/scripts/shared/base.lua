-- What every function builds on: short names, the partition's tag P, the instant `now` (ms UTC), the settings.
--
-- A function that touches messages has this shape: begin, expect, read, decide, commit. Nothing is rolled back, so
-- arguments are checked before the first write, and commit writes records, events and ids together, at the end. (Lua's
-- libraries are not there while a library loads; begin names them at the first call.)
--
-- The scripts are ordinary Lua 5.1; three kinds of names are replaced by library.py when the library is built:
-- State.X, Reason.X, Size.X … are numbers of Python's enums, Format.X are formats for struct, and r.field is the slot
-- of a head field in a record's array. What a shared part declares at its top level is known to all parts behind it.

local call, sub, byte, char, find, floor, max, min, concat, pack, read, unpack_
local P, now, settings

local function begin_names()
  call, sub, byte, char, find = redis.call, string.sub, string.byte, string.char, string.find
  floor, max, min, concat = math.floor, math.max, math.min, table.concat
  pack, read, unpack_ = struct.pack, struct.unpack, unpack
end

-- Unpack the settings: retention times in ms; events and resends are counts.
local function read_settings(packed)
  local id_map, finished, refused, receipt, hold, parked, orphan, events, resends = read(Format.SETTINGS, packed)
  return {
    id_map = id_map, finished = finished * 1000, refused = refused * 1000, receipt = receipt * 1000,
    hold = hold * 1000, parked = parked * 1000, orphan = orphan * 1000, events = events, resends = resends,
  }
end

-- What an argument must be: a number of octets, or one of these.
local NUMBER, NAME, SOME, ANY = -1, -2, -3, -4 -- digits; 1 to 255 octets; not empty; anything

local function fits(arg, want)
  if want >= 0 then return #arg == want end
  if want == NUMBER then return #arg <= 16 and find(arg, '^%d+$') ~= nil end
  if want == NAME then return #arg > 0 and #arg < 256 end
  return want == ANY or #arg > 0
end

-- Check the arguments: the `fixed` ones, then, when `each` is given, any number of items of that shape. Nothing is
-- rolled back, so a function calls this before its first write.
local function expect(args, fixed, each)
  local n, k, m = #args, #fixed, each and #each or 1
  if n < k or (n > k and not each) or (n - k) % m ~= 0 then error('malformed: ' .. n .. ' arguments') end
  for i = 1, n do
    local want = fixed[i] or each[(i - k - 1) % m + 1]
    if not fits(args[i], want) then error('malformed: argument ' .. i) end
  end
end

-- Call a command with a long list of arguments in pieces, as Lua's unpack fails near 8,000 values; 3,960 divides by 2
-- and 3. Return the last reply.
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

-- Return groups[key], a new list when it is missing.
local function group(groups, key)
  local list = groups[key]
  if not list then
    list = {}
    groups[key] = list
  end
  return list
end
