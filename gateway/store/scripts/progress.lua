-- progress: stores what carriers said: first answers (ids mapped, parked receipts applied, resolutions done), then
-- receipts (matched and applied, or parked until their id comes).
--
-- ARGV   settings, owner, number of carriers, carriers, number of answers, answers, receipts
--        answer:  Format.ANSWER, then its parts (layout.ANSWER_PART)
--        receipt: Format.RECEIPT, then what layout.RECEIPT says
-- reply  one octet per receipt (Match)
-- Idempotent: a resolution counts only while the message is SENDING under the answer's lease; parts only advance.

-- Map an id to its part, or to every part that was given the same id. `arrived` (nil when nothing is parked) collects
-- the name of a parked receipt, the record and the part.
local function remember_id(r, p, index, carrier, carrier_id)
  if carrier_id == '' then return end
  local shared = index
  for k = 1, #p, 3 do
    if r.resent == 0 and p[k + 2] == carrier_id or r.resent > 0 and was_given(r, p, k, carrier, carrier_id) then
      if k == index * 3 + 1 then return end
      shared = EVERY
    end
  end
  id_givers[carrier] = true
  local field = map_id(r, shared, carrier, carrier_id)
  if arrived then
    local n = #arrived
    arrived[n + 1], arrived[n + 2], arrived[n + 3] = parked_under(carrier, field), r, shared
  end
end

-- Merge the answers for the parts under the lease that counts. Return the excerpt of the text.
local function merge(r, p, blob, pos, count, carrier)
  for _ = 1, count do
    local index, state, _, carrier_id
    index, state, _, carrier_id, pos = read('>BBI4Bc0', blob, pos)
    local k = index * 3 + 1
    if state == Part.ACCEPTED then
      remember_id(r, p, index, carrier, carrier_id)
      local hour = carrier_id ~= '' and this_hour() or 0
      if carrier_id == '' then list_lost(r) end
      if copied(r, index) then
        add_copy(r, index, Part.ACCEPTED, hour, carrier, carrier_id)
      elseif p[k] == Part.PENDING or p[k] == Part.UNKNOWN then
        p[k], p[k + 1], p[k + 2] = Part.ACCEPTED, hour, carrier_id
      end
    elseif state == Part.UNKNOWN then
      list_lost(r)
      if copied(r, index) then
        add_copy(r, index, Part.UNKNOWN, 0, carrier, '')
      elseif p[k] == Part.PENDING then
        p[k] = Part.UNKNOWN
      end
    end
  end
  return sub(blob, pos)
end

-- Apply a late answer to a copy of an earlier lease: accepted, or (state PENDING) refused, so that it is no copy.
local function answer_copy(r, p, index, lease, state, carrier_id)
  local c, k = copies_of(r), index * 3 + 1
  for i = 1, #c, 6 do
    if c[i] == index and c[i + 3] == lease % 4294967296 and c[i + 1] == Part.UNKNOWN then
      note_in_flight(r, p, index)
      if state == Part.ACCEPTED then
        c[i + 1], c[i + 2], c[i + 5] = state, carrier_id ~= '' and this_hour() or 0, carrier_id
      else
        remove_copy(r, i)
        if p[k] and not copied(r, index) then p[k] = Part.PENDING end
      end
      if p[k] then merge_copies(r, p, k) end
      return true
    end
  end
  return false
end

-- Apply late refusals of all that was unknown: nothing is on the wire. The text may be deleted, so it is not resent.
local function refused_late(r, resolution, reason, status)
  if stopped(r, status) then return end
  refused(r, resolution == Resolution.REJECTED and State.REJECTED or State.FAILED, reason, status)
end

-- Give an accepted copy its id, when a receipt seemed to bring another one, or none was known.
local function rename(r, p, index, carrier_id, copy)
  local k = index * 3 + 1
  local old = copy and copies_of(r)[copy + 5] or p[k + 2]
  if copy then
    local c = copies_of(r)
    c[copy + 2], c[copy + 5] = this_hour(), carrier_id
  end
  if p[k] and p[k + 2] == old then p[k + 1], p[k + 2] = this_hour(), carrier_id end
end

-- Apply a late answer for one part: to its copy under that lease, or to the part itself when it has no copies. Return
-- whether anything changed. `doubted`: what is not known to be accepted may have been written.
local function late_part(r, p, index, lease, said, carrier_id, doubted)
  local k = index * 3 + 1
  if copied(r, index) then
    if said ~= Part.UNKNOWN and answer_copy(r, p, index, lease, said, carrier_id) then return true end
    local c = copies_of(r)
    for i = 1, #c, 6 do
      local mine = c[i] == index and c[i + 3] == lease % 4294967296 and c[i + 1] == Part.ACCEPTED
      if mine and carrier_id ~= '' and c[i + 5] ~= carrier_id then
        rename(r, p, index, carrier_id, i)
        return true
      end
    end
    return false
  end
  if not p[k] or p[k] > Part.UNKNOWN then return false end
  if said == Part.ACCEPTED and p[k] == Part.ACCEPTED then -- it was written once
    if carrier_id == '' or p[k + 2] == carrier_id then return false end
    rename(r, p, index, carrier_id)
    return true
  end
  if lease ~= r.lease or not doubted or p[k] == Part.ACCEPTED then return false end
  if said == Part.ACCEPTED then
    p[k] = said
    if carrier_id ~= '' then p[k + 1], p[k + 2] = this_hour(), carrier_id else list_lost(r) end
    return true
  end
  if said ~= Part.PENDING or p[k] ~= Part.UNKNOWN then return false end
  p[k] = said
  return true
end

-- Apply an answer to a lease that is over: ids are mapped; what seemed unknown was accepted, or refused.
local function late(r, blob, pos, count, total, carrier, lease, resolution, reason, status)
  local p, news = parts_of(r), false
  local idle = r.state == State.UNKNOWN or r.state <= State.QUEUED
  local doubted = idle and (r.state == State.UNKNOWN or r.resent > 0)
  if r.final == 0 and doubted and #p ~= total * 3 and r.pinned == 0 then -- split as that carrier splits it
    if r.resent > 0 then keep_lost(r, p) end
    p = resplit(p, total)
    merge_all_copies(r, p)
  end
  for _ = 1, count do
    local index, said, _, carrier_id
    index, said, _, carrier_id, pos = read('>BBI4Bc0', blob, pos)
    if said == Part.ACCEPTED then remember_id(r, p, index, carrier, carrier_id) end
    if r.final == 0 and late_part(r, p, index, lease, said, carrier_id, doubted) then news = true end
  end
  if not news then return end
  r.parts = p
  touch(r)
  follow_up(r, carrier, status)
  if r.state == State.UNKNOWN and r.final == 0 and resolution ~= Resolution.SENT and not unresolved(r) then
    refused_late(r, resolution, reason, status)
  end
end

local function answer(blob, carriers)
  local id, lease, resolution, reason, status, due, on_unknown, last, total, count, c, pos = read(Format.ANSWER, blob)
  local r, carrier = records[id], carriers[c + 1]
  if not r then return end
  if r.state ~= State.SENDING or r.lease ~= lease then
    return late(r, blob, pos, count, total, carrier, lease, resolution, reason, status)
  end
  closed[lease] = (closed[lease] or 0) + 1
  r.carrier = carrier
  close_lease(r)
  local p = parts_of(r)
  if #p == 0 or (#p ~= total * 3 and r.pinned == 0) then p = resplit(p, total) end
  local excerpt = merge(r, p, blob, pos, count, carrier)
  r.parts = p
  if excerpt ~= '' then copies_of(r).excerpt = excerpt end
  touch(r)
  if completed(r, status) then
    return
  elseif resolution == Resolution.UNKNOWN then
    unknown(r, carrier, reason, status, on_unknown)
  elseif resolution == Resolution.REJECTED then
    refused(r, State.REJECTED, reason, status)
  elseif resolution == Resolution.FAILED then
    refused(r, State.FAILED, reason, status)
  elseif stopped(r, status) then
    return
  elseif resolution == Resolution.RETRY then
    r.attempts = min(r.attempts + 1, 255)
    delay(r, max(due, 1))
    move(r, State.QUEUED, reason, carrier, '', status)
  elseif resolution == Resolution.NEXT then
    if accepted_in(p) > 0 or last == 1 or r.place == 255 then
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

-- Find the messages of these receipts: by the likeliest form of each id; what is not found by the next form, and so on.
local function find_messages(items, names, fields, found)
  look_up_all(names, fields, found)
  local form, more = 2, true
  while more do
    local others = {}
    more = false
    for number = 1, #items do
      local t = items[number]
      if t and not found[number] and t.fields[form] then
        others[number], fields[number], more = t.fields[form], t.fields[form], true
      end
    end
    if more then look_up_all(names, others, found) end
    form = form + 1
  end
end

-- Return the message and part that an id stands for. When several messages have it: the only open one, or nil and
-- `true` when several are open; each of these gets a remark.
local function owner_of(value, carrier)
  if #value == 17 then return records[sub(value, 1, 16)], byte(value, 17) end
  local found, index = nil, nil
  local several = {}
  for from = 1, #value, 17 do
    local r = records[sub(value, from, from + 15)]
    if r and r.final == 0 then
      found, index = r, byte(value, from + 16)
      several[#several + 1] = r
    end
  end
  if #several < 2 then return found, index end
  for i = 1, #several do remark(several[i], Reason.AMBIGUOUS_RECEIPT, carrier, '') end
  return nil, nil, true
end

-- Return the other open messages that a receipt may mean while the form of its host's ids is not learned.
local function others_meant(carrier, t, meant)
  local fields, names, found, short, ids, out = {}, {}, {}, sub(t.fields[1], 1, 8), {}, {}
  for i = 1, #t.guesses do fields[i], names[i] = short .. t.guesses[i][2], carrier end
  look_up_all(names, fields, found)
  for i = 1, #t.guesses do
    for from = 1, #(found[i] or ''), 17 do ids[#ids + 1] = sub(found[i], from, from + 15) end
  end
  load(ids)
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and r ~= meant and r.final == 0 then out[#out + 1] = r end
  end
  return out
end

-- Park receipts of unknown ids, or take them as proof of what was sent without an answer.
local function park_unmatched(unmatched, reply)
  local asked = {}
  for i = 1, #unmatched, 3 do
    local number, carrier, t = unmatched[i], unmatched[i + 1], unmatched[i + 2]
    park(carrier, t)
    reply[number] = char(Match.PARKED)
    local short = sub(t.fields[1], 1, 8)
    if t.detailed then asked[#asked + 1] = {number, carrier, short, parked_under(carrier, t.fields[1])} end
  end
  local firsts, seen = {}, {} -- the first of a recipient's receipts stands for all
  for i = 1, #asked do
    local whose = parked_under(asked[i][2], asked[i][3])
    if not seen[whose] then seen[whose], firsts[#firsts + 1] = true, asked[i] end
  end
  local used, before = {}, nil
  while before ~= #used do -- what is proven at one carrier may leave fewer candidates at another
    before = #used
    for i = 1, #firsts do prove(firsts[i][2], firsts[i][3], used) end
  end
  local gone_ = {}
  for i = 1, #used do gone_[used[i]] = true end
  for i = 1, #asked do
    if gone_[asked[i][4]] then reply[asked[i][1]] = char(Match.APPLIED) end
  end
end

local function progress(keys, args)
  begin(keys, args[1])
  local carriers = {}
  local at = 3 + args[3]
  local answers_end = at + 1 + args[at + 1]
  if answers_end > #args or #args[1] ~= Size.SETTINGS_SIZE or not fits(args[2], NAME) then error('malformed: counts') end
  for i = 4, at do carriers[#carriers + 1] = args[i] end

  -- Nearly every receipt has one id and no details; only the others need a table.
  local items, names, fields, states, errs, dates, wholes, found, reply = {}, {}, {}, {}, {}, {}, {}, {}, {}
  for i = answers_end + 1, #args do
    local number, c, state, count, field, pos = i - answers_end, read('>BBBBc0', args[i])
    if not carriers[c + 1] then error('malformed: carrier') end
    names[number], fields[number], items[number] = carriers[c + 1], field, false
    if count == 1 then
      states[number], errs[number], dates[number], wholes[number] = end_of_receipt(args[i], state, pos)
    else
      local t = read_receipt(args[i])
      items[number], states[number], errs[number], dates[number], wholes[number] = t, t.state, t.err, t.done, t.whole
    end
    if #errs[number] > 64 then error('malformed: error text') end
  end

  if args[at + 1] ~= '0' then
    local ids = {}
    arrived = call('EXISTS', P .. 'k') == 1 and {} or nil
    for i = at + 2, answers_end do ids[#ids + 1] = sub(args[i], 1, 16) end
    load(ids)
    for i = at + 2, answers_end do answer(args[i], carriers) end
    apply_arrived()
  end

  if #names > 0 then find_messages(items, names, fields, found) end
  local ids, unmatched = {}, {}
  for number = 1, #names do
    local value = found[number]
    if value then
      for from = 1, #value, 17 do ids[#ids + 1] = sub(value, from, from + 15) end
    end
  end
  load(ids)
  for number = 1, #names do
    if found[number] then
      local carrier = names[number]
      local r, index, several = owner_of(found[number], carrier)
      local match = several and Match.AMBIGUOUS or Match.REPEATED
      local others = r and r.final == 0 and items[number] and items[number].early
        and others_meant(carrier, items[number], r)
      if others and #others > 0 then
        others[#others + 1], match = r, Match.AMBIGUOUS
        for i = 1, #others do remark(others[i], Reason.AMBIGUOUS_RECEIPT, carrier, '') end
      elseif r then
        match = receive(r, index, carrier, sub(fields[number], 9), states[number], errs[number], dates[number],
          wholes[number])
      end
      reply[number] = char(match)
    else
      local n = #unmatched
      unmatched[n + 1], unmatched[n + 2] = number, names[number]
      unmatched[n + 3] = items[number] or read_receipt(args[answers_end + number])
    end
  end
  if #unmatched > 0 then park_unmatched(unmatched, reply) end

  commit()
  write_closed(args[2])
  return concat(reply)
end
