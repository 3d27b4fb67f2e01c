-- accept: stored, de-duplicated, in its lane, its first event raised: once, or not at all.
--
-- ARGV  settings; then groups of items that share everything but id, reference and record:
--       state, reason, lane, account, due, expires, 1 when they need a reference number, count,
--       then count times: id, reference ('' = none), record
-- reply a flat list: number of an item (from 1), the id that counts instead of its own (or the same: it was there)
-- Idempotent by the record's existence and by the reference (72 h).

local REFERENCE_KEPT = 72 * 3600 * 1000
local MENTIONS_KEPT = 64 -- ids of a day and partition that are found by client_ref alone

-- reference -> id within the last 72 h, from the hashes of four days.
local function known_references(references)
  local known, today = {}, floor(now / 86400000)
  for day = today, today - 3, -1 do
    local key = P .. 'd:' .. day
    if #references > 0 and call('EXISTS', key) == 1 then
      local values = spread_read('HMGET', key, references)
      for i = 1, #references do
        local value = values[i]
        if value and not known[references[i]] and read('>I6', value) > now - REFERENCE_KEPT then
          known[references[i]] = value
        end
      end
    end
  end
  return known
end

-- A reference of 16 octets begins with the 8 that name account and client_ref alone: for who looks without a recipient.
local function write_mentions(key, fresh)
  local ids, names, out = {}, {}, {}
  for i = 1, #fresh, 2 do
    if #fresh[i] == 16 then
      local name = sub(fresh[i], 1, 8)
      if not ids[name] then
        ids[name] = {}
        names[#names + 1] = name
      end
      if #ids[name] < MENTIONS_KEPT then ids[name][#ids[name] + 1] = fresh[i + 1] end
    end
  end
  if #names == 0 then return end
  local known = spread_read('HMGET', key, names)
  for i = 1, #names do
    local before = known[i] or ''
    if #before < MENTIONS_KEPT * 16 then
      out[#out + 1] = names[i]
      out[#out + 1] = before .. concat(ids[names[i]])
    end
  end
  if #out > 0 then
    spread('HSET', key, out)
    call('EXPIRE', key, 4 * 86400)
  end
end

-- The number that tells a recipient's long messages apart: the next one, after a start that the id's random bits give.
local function next_number(key, record, id)
  local recipient = sub(record, Size.HEAD_SIZE + 1, Size.HEAD_SIZE + 8)
  local number = call('HINCRBY', key, recipient, 1)
  if number == 1 then
    number = 65536 + read('>I2', id, 11) -- never 0, which would count up to another start
    call('HSET', key, recipient, number)
  end
  return number % 65536
end

local function accept(keys, args)
  begin(keys, args[1])
  local n, ids, references = #args, {}, {}
  local i = 2
  while i <= n do
    local last = i + 8 + 3 * args[i + 7] - 1
    for k = i + 8, last, 3 do
      ids[#ids + 1] = args[k]
      if args[k + 1] ~= '' then references[#references + 1] = args[k + 1] end
    end
    i = last + 1
  end
  load(ids)
  local known = known_references(references)

  local reply, buckets, fresh_references, number = {}, {}, {}, 0
  local day = floor(now / 86400000)
  i = 2
  while i <= n do
    local state, reason, lane, account = tonumber(args[i]), tonumber(args[i + 1]), args[i + 2], args[i + 3]
    local due, expires, numbered = tonumber(args[i + 4]), tonumber(args[i + 5]), args[i + 6] == '1'
    local last, fresh = i + 8 + 3 * args[i + 7] - 1, {}
    local rejected = state == State.REJECTED
    local final = rejected and 1 or 0
    local event = pack('>I4BBBBI4BBBBBc0', 1, state, 0, reason, final, 0, 0, #account, 0, 0, 0, account)
    for k = i + 8, last, 3 do
      local id, reference, record = args[k], args[k + 1], args[k + 2]
      number = number + 1
      local counts = records[id] and id or (reference ~= '' and known[reference])
      if counts then
        reply[#reply + 1] = number
        reply[#reply + 1] = counts
      else
        if reference ~= '' and not rejected then
          known[reference] = id
          fresh_references[#fresh_references + 1] = reference
          fresh_references[#fresh_references + 1] = id
        end
        records[id] = true
        local list = group(buckets, sub(id, 1, 4))
        local m = #list
        list[m + 1] = id
        if numbered then
          record = pack('>I2', next_number(P .. 'n:' .. day, record, id)) .. sub(record, 3)
        end
        list[m + 2] = record
        fresh[#fresh + 1] = id
        m = #events
        events[m + 1], events[m + 2] = id, event
      end
    end
    if numbered and #fresh > 0 then call('EXPIRE', P .. 'n:' .. day, 2 * 86400) end
    if #fresh > 0 then
      local at = rejected and due or expires
      local list = group(wheel, max(floor(at / 60000), floor(now / 60000)) + 1)
      for k = 1, #fresh do list[#list + 1] = fresh[k] end
      if state == State.QUEUED then
        local queue = group(pushes, lane)
        queue[account] = queue[account] or {head = {}, tail = {}, refund = 0}
        local tail = queue[account].tail
        for k = 1, #fresh do tail[#tail + 1] = fresh[k] end
      elseif state == State.HELD then
        for k = 1, #fresh do
          held[#held + 1] = now
          held[#held + 1] = fresh[k]
        end
      elseif not rejected then
        list = group(delays, lane)
        for k = 1, #fresh do
          list[#list + 1] = due
          list[#list + 1] = fresh[k]
        end
      end
    end
    i = last + 1
  end

  for bucket, list in pairs(buckets) do spread('HSET', P .. 'm:' .. hex(bucket), list) end
  if #fresh_references > 0 then
    local key = P .. 'd:' .. day
    spread('HSET', key, fresh_references)
    call('EXPIRE', key, 4 * 86400)
    write_mentions(P .. 'g:' .. day, fresh_references)
  end
  commit()
  return reply
end
