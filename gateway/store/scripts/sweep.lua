-- sweep: does what has come due: expiry, timeouts of holds and receipts, deletion, parked receipts. Bounded per call.
--
-- ARGV   settings, then per host: carrier .. NUL .. host, the kind of form in which its ids may be read
-- reply  {records looked at, expired, ended, deleted, receipts matched, orphans, more (0/1),
--         matches by another form: {carrier .. NUL .. host, the receipt's id, the message's, …},
--         some orphans: {carrier, id, …}, parked receipts dropped because there were too many}
-- Idempotent: each look compares the record with the clock. Every record that is not final has an entry in the wheel.

local BATCH = 500
local DROPPED = 100 -- parked receipts per call

-- Note that an id no longer leads to this message.
local function unmap(r, unmapped, carrier, hour, carrier_id)
  if hour == 0 then return end
  local fields = group(unmapped, 'i:' .. carrier .. ':' .. hour)
  local n = #fields
  fields[n + 1], fields[n + 2] = short_of(r) .. carrier_id, r.id
end

-- Write that to the id map; the id may still lead to other messages.
local function write_unmapped(unmapped)
  for name, list in pairs(unmapped) do
    local fields, off, left = {}, {}, {}
    for i = 1, #list, 2 do fields[(i + 1) / 2] = list[i] end
    local values = spread_read('HMGET', P .. name, fields)
    for i = 1, #fields do
      local field = fields[i]
      local value, rest = left[field] or values[i] or '', ''
      for from = 1, #value, 17 do
        if sub(value, from, from + 15) ~= list[i * 2] then rest = rest .. sub(value, from, from + 16) end
      end
      left[field] = rest
    end
    local kept = {}
    for field, rest in pairs(left) do
      if rest == '' then
        off[#off + 1] = field
      else
        kept[#kept + 1] = field
        kept[#kept + 1] = rest
      end
    end
    if #off > 0 then spread('HDEL', P .. name, off) end
    if #kept > 0 then spread('HSET', P .. name, kept) end
  end
end

-- Return the carriers that had it, as far as its timeline says.
local function carriers_of(r)
  local trail, from, out = trail_of(r), 1, {[carrier_of(r)] = true}
  while from < #trail do
    local rest = byte(trail, from + 7)
    if byte(trail, from) == State.SENDING and rest > 0 then
      local _, carrier = read('>I4Bc0', trail, from + 8)
      out[carrier] = true
    end
    from = from + 8 + rest
  end
  return out
end

-- Delete the record, and what the id map and the lists of lost messages have of it. `unmapped`: key -> fields.
local function delete_record(r, unmapped)
  deleted[#deleted + 1] = r.id
  local p, c, recipient = parts_of(r), copies_of(r), short_of(r)
  for k = 1, #p, 3 do
    if not copied(r, (k - 1) / 3) then unmap(r, unmapped, carrier_of(r), p[k + 1], p[k + 2]) end
  end
  for k = 1, #c, 6 do unmap(r, unmapped, c[k + 4], c[k + 2], c[k + 5]) end
  recount(r)
  if r.listed % 2 == 0 then return end
  for carrier in pairs(carriers_of(r)) do
    local key = P .. 'u:' .. carrier
    local ids = call('HGET', key, recipient)
    local at = ids and find(ids, r.id, 1, true)
    if at then
      ids = sub(ids, 1, at - 1) .. sub(ids, at + 16)
      if ids == '' then call('HDEL', key, recipient) else call('HSET', key, recipient, ids) end
    end
  end
end

-- End a message that no receipt came for in time.
local function end_without_receipt(r)
  local p = parts_of(r)
  if r.resent > 0 then -- open copies do not count any more: a failure of another copy does
    local c = copies_of(r)
    for i = 1, #c, 6 do
      local k = c[i] * 3 + 1
      if c[i + 1] > Part.DELIVERED and p[k] and p[k] ~= Part.DELIVERED then p[k] = max(p[k], c[i + 1]) end
    end
  end
  r.parts = p
  if verdict_of(p) then return end_by_receipts(r) end
  local reason = Reason.NO_ANSWER
  if r.state == State.SENT then
    reason = r.reason >= Reason.RECEIPT_UNKNOWN and r.reason <= Reason.AMBIGUOUS_RECEIPT and r.reason or Reason.NO_RECEIPT
  end
  move(r, r.state, reason, carrier_of(r), '', 0, '', true)
end

local function sweep_record(r, counts, unmapped)
  if r.final == 1 then
    if r.due <= now then
      counts.deleted = counts.deleted + 1
      delete_record(r, unmapped)
    end
  elseif r.state <= State.QUEUED then
    if now > r.expires then
      leave(r)
      ended(r, State.EXPIRED, Reason.EXPIRED, 0)
      counts.expired = counts.expired + 1
    else
      schedule_sweep(r.id, r.expires)
    end
  elseif r.state == State.SENDING then
    schedule_sweep(r.id, max(r.expires, now))
  elseif r.due <= now and r.state == State.UNKNOWN and r.content_len > 0 then
    r.parts = parts_of(r)
    hold_over(r)
  elseif r.due <= now then
    end_without_receipt(r)
    counts.ended = counts.ended + 1
  else
    schedule_sweep(r.id, r.due)
  end
end

-- Return the only message that another form of a receipt's id leads to: record, part and that id; nil when there are
-- several.
local function match_by_form(carrier, t)
  local others, names, found, short = {}, {}, {}, sub(t.fields[1], 1, 8)
  for i = 1, #t.guesses do others[i], names[i] = short .. t.guesses[i][2], carrier end
  look_up_all(names, others, found)
  local ids, best = {}, nil
  for _, value in pairs(found) do
    for from = 1, #value, 17 do ids[#ids + 1] = sub(value, from, from + 15) end
  end
  load(ids)
  for i, value in pairs(found) do
    local holders = 0
    for from = 1, #value, 17 do
      local r, open_ = records[sub(value, from, from + 15)], false
      if r then holders = holders + 1 end
      if r and r.final == 0 then
        local p = parts_of(r)
        for k = 1, #p, 3 do
          open_ = open_ or (p[k] < Part.DELIVERED and was_given(r, p, k, carrier, t.guesses[i][2]))
        end
      end
      if holders > 1 or (open_ and best and best[1] ~= r) then return nil end -- ambiguous
      if open_ then best = {r, byte(value, from + 16), t.guesses[i][2]} end
    end
  end
  return best
end

-- Try a receipt that has waited for its id: it may prove that something was sent, or another form of its id may lead to
-- a message. That form counts where it is allowed (`forms`: carrier, NUL, host -> kind); it is reported in any case.
local function retry_parked(name, t, forms, state)
  local carrier = carrier_in(name)
  local host = carrier .. '\0' .. t.host
  local allowed = forms[host]
  local proofs = {}
  if t.detailed then prove(carrier, sub(t.fields[1], 1, 8), proofs, allowed ~= nil) end
  for k = 1, #proofs do state.handled[proofs[k]] = true end
  if state.handled[name] then return true end
  local best = t.detailed and match_by_form(carrier, t)
  if not best then return false end
  local r, index, id, allowed_form = best[1], best[2], best[3], false
  if t.tries == 0 then
    for _, word in ipairs({host, sub(t.fields[1], 9), id}) do table.insert(state.evidence, word) end
  end
  for i = 1, #t.guesses do
    if t.guesses[i][1] == allowed and t.guesses[i][2] == id then allowed_form = true end
  end
  if not allowed_form then
    state.waits[name] = t
    return false
  end
  receive(r, index, carrier, id, t.state, t.err, t.done, t.whole)
  local names = {}
  names_of(carrier, t.fields, names)
  drop_parked(names)
  for k = 1, #names do state.handled[names[k]] = true end
  return true
end

-- Try parked receipts that are old enough. One that fits nothing becomes an orphan; one that only lacks permission to
-- match by another form is tried again.
local function try_parked(counts, forms)
  local aged = call('ZRANGE', P .. 'ka', '-inf', now - settings.orphan, 'BYSCORE', 'LIMIT', 0, Size.PARKED_TRIED)
  local state, orphans, again = {done = {}, handled = {}, waits = {}, evidence = counts.guesses}, {}, {}
  for i = 1, #aged do
    local name = aged[i]
    local blob = call('HGET', P .. 'k', name)
    if blob and not state.handled[name] then
      local t = read_parked(blob)
      if retry_parked(name, t, forms, state) then
        counts.matched = counts.matched + 1
      elseif state.waits[name] then
        again[#again + 1] = now
        again[#again + 1] = name
        t.tries = t.tries + 1
        for k = 1, #t.fields do call('HSET', P .. 'k', parked_under(carrier_in(name), t.fields[k]), pack_parked(t)) end
      else
        orphans[#orphans + 1] = now + settings.parked - settings.orphan
        orphans[#orphans + 1] = name
        counts.orphans = counts.orphans + 1
        if #counts.unmatched < 20 then
          local carrier = carrier_in(name)
          table.insert(counts.unmatched, carrier)
          table.insert(counts.unmatched, sub(name, #carrier + 10))
        end
      end
    end
  end
  local ended_ = call('ZRANGE', P .. 'ko', '-inf', now, 'BYSCORE', 'LIMIT', 0, DROPPED)
  if #aged == Size.PARKED_TRIED or #ended_ == DROPPED then counts.more = 1 end
  local before = #ended_
  if too_many('k', 'ko', 'ka', ended_, DROPPED) then counts.more = 1 end
  counts.dropped = #ended_ - before + tonumber(call('GET', P .. 'kd') or 0)
  call('DEL', P .. 'kd')
  for i = 1, #ended_ do
    local blob = call('HGET', P .. 'k', ended_[i])
    if blob then names_of(carrier_in(ended_[i]), read_parked(blob).fields, state.done) end
    state.done[#state.done + 1] = ended_[i]
  end
  return aged, state.done, orphans, again
end

local function sweep(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE}, {NAME, NUMBER})
  local forms, counts = {}, {
    looked_at = 0, expired = 0, ended = 0, deleted = 0, matched = 0, orphans = 0, more = 0, guesses = {}, unmatched = {},
    dropped = 0,
  }
  for i = 2, #args, 2 do forms[args[i]] = tonumber(args[i + 1]) end
  local minute = call('ZRANGE', P .. 'wheel', '-inf', floor(now / 60000), 'BYSCORE', 'LIMIT', 0, 1)[1]
  local key = minute and P .. 'w:' .. minute
  local ids = minute and call('LRANGE', key, 0, BATCH - 1) or {}
  load(ids)
  local seen, unmapped = {}, {}
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and not seen[r] then sweep_record(r, counts, unmapped) end
    if r then seen[r] = true end
  end
  counts.looked_at = #ids
  if minute then counts.more = 1 end
  local aged, done, orphans, again = try_parked(counts, forms)

  commit()
  if minute then
    if #ids < BATCH then
      call('DEL', key)
      call('ZREM', P .. 'wheel', minute)
    else
      call('LTRIM', key, #ids, -1)
    end
  end
  local buckets = {}
  for i = 1, #deleted do
    local list = group(buckets, sub(deleted[i], 1, 4))
    list[#list + 1] = deleted[i]
  end
  for bucket, list in pairs(buckets) do spread('HDEL', P .. 'm:' .. hex(bucket), list) end
  write_unmapped(unmapped)
  if #aged > 0 then spread('ZREM', P .. 'ka', aged) end
  if #orphans > 0 then spread('ZADD', P .. 'ko', orphans) end
  if #again > 0 then spread('ZADD', P .. 'ka', again) end
  drop_parked(done)
  return {
    counts.looked_at, counts.expired, counts.ended, counts.deleted, counts.matched, counts.orphans, counts.more,
    counts.guesses, counts.unmatched, counts.dropped,
  }
end
