-- progress: what carriers said. Answers first (ids mapped, parked receipts applied, fates carried out), then receipts
-- (matched, state moved; or parked until their id comes).
--
-- ARGV  settings, owner, number of carriers, carriers, number of answers, answers, receipts
--       answer:  $ANSWER of layout, then its parts: index, state, status, length, id
--       receipt: $RECEIPT of layout, then its fields of the id map (length, field), the likeliest first; date; error text
-- reply one octet per receipt (Match).
-- Idempotent: a fate counts only while the message is SENDING under the answer's lease; parts and receipts only rise.

-- Merge what was said about the parts. Answers whether a part was newly accepted.
-- `arrived` (nil when nothing is parked) collects: name of a parked receipt, record, part.
local function merge(r, p, blob, pos, count, carrier, keep, arrived)
  local better = false
  for _ = 1, count do
    local index, state, _, carrier_id
    index, state, _, carrier_id, pos = read('>BBI4Bc0', blob, pos)
    local k = index * 3 + 1
    if state == Part.ACCEPTED then
      if carrier_id ~= '' and not (p[k] and p[k + 1] > 0 and p[k + 2] == carrier_id) then
        local list, field = group(mapped, carrier), short_of(r) .. carrier_id
        local n = #list
        list[n + 1], list[n + 2] = field, r.id .. char(index)
        if arrived then
          arrived[#arrived + 1] = parked_under(carrier, field)
          arrived[#arrived + 1] = r
          arrived[#arrived + 1] = index
        end
      end
      if keep and p[k] and (p[k] == Part.PENDING or p[k] == Part.UNKNOWN) then
        p[k], better = Part.ACCEPTED, true
        if carrier_id ~= '' then p[k + 1], p[k + 2] = floor(now / 3600000), carrier_id else list_lost(r) end
      end
    elseif state == Part.UNKNOWN and keep and p[k] == Part.PENDING then
      p[k] = Part.UNKNOWN
    end
  end
  return better
end

-- An answer to a lease that is over: ids are mapped; a part that was thought unknown counts as accepted.
local function late(r, blob, pos, count, total, carrier, status, arrived)
  local p = parts_of(r)
  local may = r.final == 0
    and (r.state == State.UNKNOWN or r.state == State.SENDING or (r.state < State.SENDING and r.resent == 1))
  if may and #p ~= total * 3 and r.pinned == 0 and r.state ~= State.SENDING then p = fresh_parts(total) end
  if not merge(r, p, blob, pos, count, carrier, may, arrived) then return end
  r.parts = p
  touch(r)
  if r.state == State.SENDING then
    r.pinned = 1
    return
  end
  local whole = accepted_in(p) * 3 == #p
  if whole then leave(r) end -- wherever it waits, deferred anew or held as well: there is nothing left to send
  pin(r, carrier)
  if whole then sent(r, status) end
end

local function answer(blob, carriers, arrived)
  local id, lease, fate, reason, status, due, on_unknown, last, total, count, c, pos = read($ANSWER, blob)
  local r, carrier = records[id], carriers[c + 1]
  if not r then return end
  if r.state ~= State.SENDING or r.lease ~= lease then
    return late(r, blob, pos, count, total, carrier, status, arrived)
  end
  closed[lease] = (closed[lease] or 0) + 1
  r.carrier = carrier
  local p = r.parts_len > 0 and parts_of(r)
  if not p or (#p ~= total * 3 and r.pinned == 0) then p = fresh_parts(total) end
  merge(r, p, blob, pos, count, carrier, true, arrived)
  r.parts = p
  local accepted = accepted_in(p)
  if accepted > 0 then r.pinned = 1 end
  touch(r)
  if accepted * 3 == #p and accepted > 0 then
    sent(r, status)
  elseif fate == Fate.UNKNOWN then
    unknown(r, reason, status, on_unknown)
  elseif fate == Fate.REJECTED then
    refused(r, State.REJECTED, reason, status)
  elseif fate == Fate.FAILED then
    refused(r, State.FAILED, reason, status)
  elseif stopped(r, status) then
    return
  elseif fate == Fate.RETRY then
    r.attempts = min(r.attempts + 1, 255)
    delay(r, max(due, 1))
    move(r, State.QUEUED, reason, carrier, '', status)
  elseif fate == Fate.NEXT then
    if accepted > 0 or last == 1 or r.place == 255 then
      refused(r, State.FAILED, Reason.ROUTES_EXHAUSTED, status)
    else
      r.place, r.attempts = r.place + 1, 0
      move(r, State.QUEUED, reason, carrier, '', status)
      push_tail(r)
    end
  else -- BACK, and SENT with parts that are still to be sent
    move(r, State.QUEUED, reason, carrier, '', status)
    push_head(r)
  end
end

-- Receipts that came before their ids.
local function apply_parked(arrived)
  if not arrived or #arrived == 0 then return end
  local names = {}
  for i = 1, #arrived, 3 do names[#names + 1] = arrived[i] end
  local values, done = spread_read('HMGET', P .. 'k', names), {}
  for i = 1, #names do
    if values[i] then
      local r, index, carrier = arrived[i * 3 - 1], arrived[i * 3], carrier_in(names[i])
      local fields, state, err, done_at = read_receipt(values[i])
      receive(r, index, carrier, sub(names[i], #carrier + 10), state, err, done_at)
      names_of(carrier, fields, done)
    end
  end
  if #done > 0 then
    spread('HDEL', P .. 'k', done)
    spread('ZREM', P .. 'ka', done)
    spread('ZREM', P .. 'ko', done)
  end
end

-- Look these fields of one carrier up: in the hours that have an id map, the newest first, and in this call's answers.
-- found[number] becomes the message id and part.
local function look_up(carrier, numbers, fields, found)
  local hours = call('SMEMBERS', P .. 'h:' .. carrier)
  table.sort(hours, function(a, b) return tonumber(a) > tonumber(b) end)
  for h = 1, #hours do
    if #numbers == 0 then return end
    local wanted, missing = {}, {}
    for i = 1, #numbers do wanted[i] = fields[numbers[i]] end
    local values = spread_read('HMGET', P .. 'i:' .. carrier .. ':' .. hours[h], wanted)
    for i = 1, #numbers do
      if values[i] then found[numbers[i]] = values[i] else missing[#missing + 1] = numbers[i] end
    end
    numbers = missing
  end
  local list, fresh = mapped[carrier], {}
  if not list or #numbers == 0 then return end
  for i = 1, #list, 2 do fresh[list[i]] = list[i + 1] end
  for i = 1, #numbers do found[numbers[i]] = fresh[fields[numbers[i]]] end
end

-- The same for fields of several carriers; names[number] is the carrier.
local function look_up_all(names, fields, found)
  local by_carrier = {}
  for number, field in pairs(fields) do
    if not found[number] then
      local list = group(by_carrier, names[number])
      list[#list + 1] = number
    end
  end
  for carrier, numbers in pairs(by_carrier) do look_up(carrier, numbers, fields, found) end
end

-- Which messages these receipts are about: by the likeliest form of the id; what is left by the next, and so on.
local function find_messages(blobs, names, fields, found)
  look_up_all(names, fields, found)
  local form, more = 2, true
  while more do
    local others = {}
    more = false
    for number = 1, #blobs do
      if not found[number] then
        local all = read_receipt(blobs[number])
        if all[form] then others[number], fields[number], more = all[form], all[form], true end
      end
    end
    if more then look_up_all(names, others, found) end
    form = form + 1
  end
end

-- Keep a receipt until its id comes. A final one is never replaced.
local function park(carrier, blob, puts, ages)
  local fields = read_receipt(blob)
  for k = 1, #fields do
    local name = parked_under(carrier, fields[k])
    local there = puts[name] or call('HGET', P .. 'k', name)
    if not there or byte(there, 2) < Part.DELIVERED then puts[name] = blob end
  end
  ages[#ages + 1] = parked_under(carrier, fields[1])
end

local function write_parked(puts, ages)
  for name, blob in pairs(puts) do call('HSET', P .. 'k', name, blob) end
  for i = 1, #ages do
    if not call('ZSCORE', P .. 'ko', ages[i]) then call('ZADD', P .. 'ka', 'NX', now, ages[i]) end
  end
end

local function progress(keys, args)
  begin(keys, args[1])
  local carriers = {}
  local at = 3 + args[3]
  local answers_end = at + 1 + args[at + 1]
  if answers_end > #args or #args[1] ~= Size.SETTINGS_SIZE or not fits(args[2], NAME) then error('malformed: counts') end
  for i = 4, at do carriers[#carriers + 1] = args[i] end

  local blobs, names, fields, states, errs, dates, found, reply = {}, {}, {}, {}, {}, {}, {}, {}
  for i = answers_end + 1, #args do
    local number, c, state, count, field, pos = i - answers_end, read('>BBBBc0', args[i])
    if not carriers[c + 1] then error('malformed: carrier') end
    blobs[number], names[number], fields[number] = args[i], carriers[c + 1], field
    if count == 1 then
      states[number], errs[number], dates[number] = end_of_receipt(args[i], state, pos)
    else
      c, states[number], errs[number], dates[number] = read_receipt(args[i])
    end
    if #errs[number] > 64 then error('malformed: error text') end
  end

  if args[at + 1] ~= '0' then
    local ids, arrived = {}, call('EXISTS', P .. 'k') == 1 and {} or nil
    for i = at + 2, answers_end do ids[#ids + 1] = sub(args[i], 1, 16) end
    load(ids)
    for i = at + 2, answers_end do answer(args[i], carriers, arrived) end
    apply_parked(arrived)
  end

  if #blobs > 0 then find_messages(blobs, names, fields, found) end
  local ids, puts, ages = {}, {}, {}
  for number = 1, #blobs do
    if found[number] then ids[#ids + 1] = sub(found[number], 1, 16) end
  end
  load(ids)
  for number = 1, #blobs do
    local match, value = Match.PARKED, found[number]
    if value then
      local r = records[sub(value, 1, 16)]
      local id, index = sub(fields[number], 9), byte(value, 17)
      match = r and receive(r, index, names[number], id, states[number], errs[number], dates[number])
        or Match.REPEATED
    else
      park(names[number], blobs[number], puts, ages)
    end
    reply[number] = char(match)
  end

  commit()
  write_closed(args[2])
  write_parked(puts, ages)
  return concat(reply)
end
