-- sweep: does what has come due: expiry, hold and receipt timeouts, deletion, parked receipts. Bounded; call again.
--
-- ARGV  settings
-- reply {looked at, expired, ended, deleted, matched, orphans, more (0/1)}
-- Idempotent: each look compares the record with the clock. Every record that is not final has an entry in the wheel.

local LOOKS = 500

-- The record goes, and with it what the id map and the list of the lost have of it. `unmapped`: key -> fields.
local function forget(r, unmapped)
  gone[#gone + 1] = r.id
  local p, recipient, carrier = parts_of(r), short_of(r), carrier_of(r)
  for k = 1, #p, 3 do
    if p[k + 1] > 0 then
      local fields = group(unmapped, 'i:' .. carrier .. ':' .. p[k + 1])
      fields[#fields + 1] = recipient .. p[k + 2]
    end
  end
  recount(r)
  if r.listed % 2 == 1 then
    local key = P .. 'u:' .. carrier
    local ids = call('HGET', key, recipient)
    local at = ids and find(ids, r.id, 1, true)
    if at then
      ids = sub(ids, 1, at - 1) .. sub(ids, at + 16)
      if ids == '' then call('HDEL', key, recipient) else call('HSET', key, recipient, ids) end
    end
  end
end

local function look(r, reply, unmapped)
  if r.final == 1 then
    if r.due <= now then
      reply[4] = reply[4] + 1
      forget(r, unmapped)
    end
  elseif r.state <= State.QUEUED then
    if now > r.expires then
      leave(r)
      move(r, State.EXPIRED, Reason.EXPIRED)
      reply[2] = reply[2] + 1
    else
      look_at(r.id, r.expires)
    end
  elseif r.state == State.SENDING then
    look_at(r.id, max(r.expires, now))
  elseif r.due <= now then
    local reason = r.state == State.SENT and Reason.NO_RECEIPT or Reason.NO_ANSWER
    move(r, r.state, reason, carrier_of(r), '', 0, '', true)
    reply[3] = reply[3] + 1
  else
    look_at(r.id, r.due)
  end
end

-- A receipt that found no id: the oldest message of that carrier and recipient that waits for one without an id.
local function match_lost(carrier, fields, state, err, done)
  local ids, list = call('HGET', P .. 'u:' .. carrier, sub(fields[1], 1, 8)), {}
  if not ids then return false end
  for from = 1, #ids, 16 do list[#list + 1] = sub(ids, from, from + 15) end
  load(list)
  for i = 1, #list do
    local r = records[list[i]]
    if r and r.final == 0 and (r.state == State.SENT or r.state == State.UNKNOWN) and carrier_of(r) == carrier then
      local p = parts_of(r)
      for k = 1, #p, 3 do
        if p[k] == Part.UNKNOWN or (p[k] == Part.ACCEPTED and p[k + 2] == '') then
          receive(r, (k - 1) / 3, carrier, sub(fields[1], 9), state, err, done)
          return true
        end
      end
    end
  end
  return false
end

-- Parked receipts that are old enough are tried once, then wait as orphans for their end.
local function try_parked(reply)
  local aged, done, orphans = call('ZRANGE', P .. 'ka', '-inf', now - settings.orphan, 'BYSCORE', 'LIMIT', 0, 100), {}, {}
  local over = {} -- one receipt may have aged under two forms of its id, and is worth one message
  for i = 1, #aged do
    local blob, carrier = call('HGET', P .. 'k', aged[i]), carrier_in(aged[i])
    if blob and not over[aged[i]] then
      local fields, state, err, date = read_receipt(blob)
      if match_lost(carrier, fields, state, err, date) then
        local from = #done + 1
        names_of(carrier, fields, done)
        for k = from, #done do over[done[k]] = true end
        reply[5] = reply[5] + 1
      else
        orphans[#orphans + 1] = now + settings.parked - settings.orphan
        orphans[#orphans + 1] = aged[i]
        reply[6] = reply[6] + 1
      end
    end
  end
  local ended = call('ZRANGE', P .. 'ko', '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
  for i = 1, #ended do
    local blob = call('HGET', P .. 'k', ended[i])
    if blob then
      local fields = read_receipt(blob)
      names_of(carrier_in(ended[i]), fields, done)
    end
  end
  if #aged == 100 or #ended == 100 then reply[7] = 1 end
  return aged, ended, done, orphans
end

local function sweep(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE})
  local reply = {0, 0, 0, 0, 0, 0, 0}
  local minute = call('ZRANGE', P .. 'wheel', '-inf', floor(now / 60000), 'BYSCORE', 'LIMIT', 0, 1)[1]
  local key = minute and P .. 'w:' .. minute
  local ids = minute and call('LRANGE', key, 0, LOOKS - 1) or {}
  load(ids)
  local seen, unmapped = {}, {}
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and not seen[r] then look(r, reply, unmapped) end
    if r then seen[r] = true end
  end
  reply[1] = #ids
  if minute then reply[7] = 1 end
  local aged, ended, done, orphans = try_parked(reply)

  commit()
  if minute then
    if #ids < LOOKS then
      call('DEL', key)
      call('ZREM', P .. 'wheel', minute)
    else
      call('LTRIM', key, #ids, -1)
    end
  end
  local buckets = {}
  for i = 1, #gone do
    local list = group(buckets, sub(gone[i], 1, 4))
    list[#list + 1] = gone[i]
  end
  for bucket, list in pairs(buckets) do spread('HDEL', P .. 'm:' .. hex(bucket), list) end
  for name, fields in pairs(unmapped) do spread('HDEL', P .. name, fields) end
  if #aged > 0 then spread('ZREM', P .. 'ka', aged) end
  if #ended > 0 then spread('ZREM', P .. 'ko', ended) end
  if #orphans > 0 then spread('ZADD', P .. 'ko', orphans) end
  if #done > 0 then spread('HDEL', P .. 'k', done) end
  return reply
end
