-- accept: stores messages, each de-duplicated, in its lane and with its first event raised: once, or not at all.
--
-- ARGV   settings; then groups of items that share everything but id, reference and record:
--        state, reason, lane, account, due, expires, 1 when they need a reference number, count;
--        then count times: id, reference ('' = none), record
-- reply  flat: number of an item (from 1), the id that is stored already (its own, or that of its reference), …
-- Idempotent: an id that has a record, and a reference of the last 72 h, change nothing.

local GROUP = {NUMBER, NUMBER, NAME, NAME, NUMBER, NUMBER, NUMBER, NUMBER}

-- Return the groups as tables, with the places of their first and last item in args.
local function read_groups(args)
  local groups, i = {}, 2
  while i <= #args do
    local last = i + 7 + 3 * args[i + 7]
    if last > #args then error('malformed: count') end
    expect({unpack_(args, i, i + 7)}, GROUP)
    if args[i] - State.REJECTED > 0 or args[i + 1] - 255 > 0 then error('malformed: state or reason') end
    for k = i + 8, last, 3 do
      local reference = args[k + 1]
      if #args[k] ~= 16 or (reference ~= '' and #reference ~= 16) or #args[k + 2] <= Size.ACCOUNT_AT then
        error('malformed: item')
      end
    end
    local state, reason, lane, account, due, expires, numbered = unpack_(args, i, i + 6)
    groups[#groups + 1] = {
      state = tonumber(state), reason = tonumber(reason), lane = lane, account = account, due = tonumber(due),
      expires = tonumber(expires), numbered = numbered == '1', rejected = tonumber(state) == State.REJECTED,
      first = i + 8, last = last, fresh = {},
    }
    i = last + 1
  end
  return groups
end

-- Return a number that tells a recipient's long messages apart: the next one, from a start that the id's random bits
-- give.
local function next_number(key, record, id)
  local recipient = sub(record, Size.HEAD_SIZE + 1, Size.HEAD_SIZE + 8)
  local number = call('HINCRBY', key, recipient, 1)
  if number == 1 then
    number = 65536 + read('>I2', id, 11) -- never 0, which would count up to another start
    call('HSET', key, recipient, number)
  end
  return number % 65536
end

local function with_numbers(group_, buckets)
  local key, wanted = P .. 'n:' .. today(), {}
  for i = 1, #group_.fresh do wanted[group_.fresh[i]] = true end
  for _, list in pairs(buckets) do
    for i = 1, #list, 2 do
      if wanted[list[i]] then
        list[i + 1] = pack('>I2', next_number(key, list[i + 1], list[i])) .. sub(list[i + 1], 3)
      end
    end
  end
  if #group_.fresh > 0 then call('EXPIRE', key, 2 * 86400) end
end

-- Put the new messages of a group where they wait, and schedule their first sweep.
local function place(group_)
  local fresh = group_.fresh
  if #fresh == 0 then return end
  schedule_sweep(fresh[1], group_.rejected and group_.due or group_.expires, fresh)
  if group_.rejected then return end
  tally(group_.account, group_.state, #fresh)
  if group_.state == State.QUEUED then
    local accounts = group(pushes, group_.lane)
    accounts[group_.account] = accounts[group_.account] or {head = {}, tail = {}, refund = 0}
    local tail = accounts[group_.account].tail
    for i = 1, #fresh do tail[#tail + 1] = fresh[i] end
    return
  end
  local list, score = held, now
  if group_.state ~= State.HELD then list, score = group(delays, group_.lane), group_.due end
  for i = 1, #fresh do
    list[#list + 1] = score
    list[#list + 1] = fresh[i]
  end
end

local function accept(keys, args)
  begin(keys, args[1])
  if #args[1] ~= Size.SETTINGS_SIZE then error('malformed: settings') end
  local groups, ids, references = read_groups(args), {}, {}
  for g = 1, #groups do
    for k = groups[g].first, groups[g].last, 3 do
      ids[#ids + 1] = args[k]
      if args[k + 1] ~= '' then references[#references + 1] = args[k + 1] end
    end
  end
  load(ids)
  local known, lists = known_references(references)

  local reply, buckets, new_references, number = {}, {}, {}, 0
  for g = 1, #groups do
    local group_ = groups[g]
    local account, fresh, rejected = group_.account, group_.fresh, group_.rejected
    local whole = followed() and (rejected or wants_all(account))
    local event = pack('>I4BBBBI4BBBBBc0', 1, group_.state, 0, group_.reason, rejected and 1 or 0, 0, 0, #account, 0, 0, 0,
      account)
    for k = group_.first, group_.last, 3 do
      local id, reference = args[k], args[k + 1]
      local counts = records[id] and id or (reference ~= '' and known[reference])
      number = number + 1
      if counts then
        reply[#reply + 1] = number
        reply[#reply + 1] = counts
      else
        if reference ~= '' and not rejected then
          known[reference] = id
          local n = #new_references
          new_references[n + 1], new_references[n + 2] = reference, id
        end
        records[id] = true
        fresh[#fresh + 1] = id
        local list = group(buckets, sub(id, 1, 4))
        local n, m = #list, #events
        list[n + 1], list[n + 2] = id, args[k + 2]
        events[m + 1], events[m + 2] = id, event
        add_summary(whole and open(id, args[k + 2]) or group_, #id + #event, whole)
      end
    end
    if group_.numbered then with_numbers(group_, buckets) end
    place(group_)
  end

  for bucket, list in pairs(buckets) do spread('HSET', P .. 'm:' .. hex(bucket), list) end
  write_references(new_references, lists)
  commit()
  return reply
end
