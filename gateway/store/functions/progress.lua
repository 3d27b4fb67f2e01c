-- progress: what carriers said. Answers first (ids mapped, parked receipts applied, fates carried out), then receipts
-- (matched, state moved; or parked until their id comes).
--
-- ARGV  settings, owner, number of carriers, carriers, number of answers, answers, receipts
--       answer:  $ANSWER of layout, then its parts: index, state, status, length, id
--       receipt: $RECEIPT of layout, then its ids (length, id), the likeliest first, then the error text
-- reply one octet per receipt (Match).
-- Idempotent: a fate counts only while the message is SENDING under the answer's lease; parts and receipts only rise.

-- Merge what was said about the parts. Answers whether a part was newly accepted.
-- new_ids collects: field of a parked receipt, record, part.
local function merge(r, p, blob, pos, count, carrier, keep, new_ids)
  local hour, better = floor(now / 3600000), false
  for _ = 1, count do
    local index, state, _, carrier_id
    index, state, _, carrier_id, pos = read('>BBI4Bc0', blob, pos)
    local k = index * 3 + 1
    if state == Part.ACCEPTED then
      if carrier_id ~= '' and not (p[k] and p[k + 1] > 0 and p[k + 2] == carrier_id) then
        map_id(carrier, r, carrier_id, index)
        new_ids[#new_ids + 1] = carrier .. '\0' .. sub(r.recipient, 1, 8) .. carrier_id
        new_ids[#new_ids + 1] = r
        new_ids[#new_ids + 1] = index
      end
      if keep and p[k] and (p[k] == Part.PENDING or p[k] == Part.UNKNOWN) then
        p[k], better = Part.ACCEPTED, true
        if carrier_id ~= '' then p[k + 1], p[k + 2] = hour, carrier_id else list_lost(r) end
      end
    elseif state == Part.UNKNOWN and keep and p[k] == Part.PENDING then
      p[k] = Part.UNKNOWN
    end
  end
  return better
end

-- An answer to a lease that is over: ids are mapped; a part that was thought unknown counts as accepted.
local function late(r, blob, pos, count, total, carrier, status, new_ids)
  local p = parts_of(r)
  local may = r.final == 0
    and (r.state == State.UNKNOWN or r.state == State.SENDING or (r.state < State.SENDING and r.resent == 1))
  if may and #p ~= total * 3 and r.pinned == 0 and r.state ~= State.SENDING then p = fresh_parts(total) end
  if not merge(r, p, blob, pos, count, carrier, may, new_ids) then return end
  r.parts = p
  touch(r)
  if r.state == State.SENDING then
    r.pinned = 1
    return
  end
  local whole = accepted_in(p) * 3 == #p
  if whole and (r.state == State.UNKNOWN or r.state == State.QUEUED) then leave(r) end
  r.carrier, r.pinned = carrier, 1
  if whole and (r.state == State.UNKNOWN or r.state == State.QUEUED) then sent(r, status) end
end

local function answer(blob, carriers, new_ids)
  local id, lease, fate, reason, status, due, on_unknown, last, total, count, c, pos = read($ANSWER, blob)
  local r, carrier = records[id], carriers[c + 1]
  if not r then return end
  if r.state ~= State.SENDING or r.lease ~= lease then
    return late(r, blob, pos, count, total, carrier, status, new_ids)
  end
  closed[lease] = (closed[lease] or 0) + 1
  r.carrier = carrier
  local p = parts_of(r)
  if #p ~= total * 3 and (r.pinned == 0 or #p == 0) then p = fresh_parts(total) end
  merge(r, p, blob, pos, count, carrier, true, new_ids)
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

local function read_receipt(blob, carriers)
  local c, recipient, state, at, count, pos = read($RECEIPT, blob)
  local ids = {}
  for i = 1, count do ids[i], pos = read('>Bc0', blob, pos) end
  return {carrier = carriers[c + 1], recipient = recipient, state = state, ids = ids, err = sub(blob, pos)}
end

local function parked_field(receipt, id)
  return receipt.carrier .. '\0' .. receipt.recipient .. id
end

-- Receipts that came before their ids.
local function apply_parked(new_ids)
  if #new_ids == 0 or call('EXISTS', P .. 'k') == 0 then return end
  local fields = {}
  for i = 1, #new_ids, 3 do fields[#fields + 1] = new_ids[i] end
  local values, done = spread_read('HMGET', P .. 'k', fields), {}
  for i = 1, #fields do
    if values[i] then
      local carrier = sub(fields[i], 1, find(fields[i], '\0', 1, true) - 1)
      local receipt = read_receipt(values[i], {carrier})
      receive(new_ids[i * 3 - 1], new_ids[i * 3], carrier, sub(fields[i], #carrier + 10), receipt.state, receipt.err)
      for k = 1, #receipt.ids do done[#done + 1] = parked_field(receipt, receipt.ids[k]) end
    end
  end
  if #done > 0 then
    spread('HDEL', P .. 'k', done)
    spread('ZREM', P .. 'ka', done)
    spread('ZREM', P .. 'ko', done)
  end
end

-- Look up one form of the ids of all receipts that are not found yet; the newest hours first.
local function look_up(receipts, form)
  local by_carrier = {}
  for i = 1, #receipts do
    local receipt = receipts[i]
    if not receipt.found and receipt.ids[form] then
      local field = receipt.recipient .. receipt.ids[form]
      local own = mapped[receipt.carrier] and mapped[receipt.carrier][field]
      if own then
        receipt.found, receipt.id = own, receipt.ids[form]
      else
        local list = group(by_carrier, receipt.carrier)
        list[#list + 1] = receipt
      end
    end
  end
  for carrier, list in pairs(by_carrier) do
    local hours = call('SMEMBERS', P .. 'h:' .. carrier)
    table.sort(hours, function(a, b) return tonumber(a) > tonumber(b) end)
    for h = 1, #hours do
      if #list == 0 then break end
      local fields, missing = {}, {}
      for i = 1, #list do fields[i] = list[i].recipient .. list[i].ids[form] end
      local values = spread_read('HMGET', P .. 'i:' .. carrier .. ':' .. hours[h], fields)
      for i = 1, #list do
        if values[i] then
          list[i].found, list[i].id = values[i], list[i].ids[form]
        else
          missing[#missing + 1] = list[i]
        end
      end
      list = missing
    end
  end
end

-- Keep a receipt until its id comes. A final one is never replaced.
local function park(receipt, blob, puts, ages)
  for k = 1, #receipt.ids do
    local field = parked_field(receipt, receipt.ids[k])
    local there = puts[field] or call('HGET', P .. 'k', field)
    if not there or byte(there, 10) < Part.DELIVERED then puts[field] = '\0' .. sub(blob, 2) end
  end
  if receipt.ids[1] then ages[#ages + 1] = parked_field(receipt, receipt.ids[1]) end
end

local function write_parked(puts, ages)
  for field, blob in pairs(puts) do call('HSET', P .. 'k', field, blob) end
  for i = 1, #ages do
    if not call('ZSCORE', P .. 'ko', ages[i]) then call('ZADD', P .. 'ka', 'NX', now, ages[i]) end
  end
end

local function progress(keys, args)
  begin(keys, args[1])
  local carriers, new_ids = {}, {}
  local at = 3 + args[3]
  for i = 4, at do carriers[#carriers + 1] = args[i] end
  local answers_end = at + 1 + args[at + 1]

  local ids = {}
  for i = at + 2, answers_end do ids[#ids + 1] = sub(args[i], 1, 16) end
  load(ids)
  for i = at + 2, answers_end do answer(args[i], carriers, new_ids) end
  apply_parked(new_ids)

  local receipts, forms = {}, 0
  for i = answers_end + 1, #args do
    local receipt = read_receipt(args[i], carriers)
    receipts[#receipts + 1] = receipt
    forms = max(forms, #receipt.ids)
  end
  for form = 1, forms do look_up(receipts, form) end
  ids = {}
  for i = 1, #receipts do
    if receipts[i].found then ids[#ids + 1] = sub(receipts[i].found, 1, 16) end
  end
  load(ids)
  local reply, puts, ages = {}, {}, {}
  for i = 1, #receipts do
    local receipt = receipts[i]
    local match = Match.PARKED
    if receipt.found then
      local r = records[sub(receipt.found, 1, 16)]
      match = r and receive(r, byte(receipt.found, 17), receipt.carrier, receipt.id, receipt.state, receipt.err)
        or Match.REPEATED
    else
      park(receipt, args[answers_end + i], puts, ages)
    end
    reply[i] = char(match)
  end

  commit()
  write_closed(args[2])
  write_parked(puts, ages)
  return concat(reply)
end
