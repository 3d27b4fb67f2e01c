-- Submits whose answer was lost: resent, or proven by a receipt whose id no answer brought.

local prove
do -- a block of its own: Lua allows 200 locals per block

-- Tell whether a message in flight at this carrier, to this recipient, may own a receipt of an unknown id. All leases
-- are read when this is first asked in a call, which is rare.
local function in_flight(carrier, short)
  if not in_flight_by_recipient then
    in_flight_by_recipient = {}
    local owners, ids = call('HKEYS', P .. 'b'), {}
    for i = 1, #owners do
      local all = call('HGETALL', P .. 'x:' .. owners[i])
      for k = 1, #all, 2 do
        if not is_open_count(all[k]) then
          local _, _, pos = read('>BBc0', all[k + 1])
          for from = pos, #all[k + 1], 16 do ids[#ids + 1] = sub(all[k + 1], from, from + 15) end
        end
      end
    end
    load(ids)
    for i = 1, #ids do
      local r = records[ids[i]]
      if r then
        local list = group(in_flight_by_recipient, short_of(r))
        list[#list + 1] = r
      end
    end
  end
  for _, r in ipairs(in_flight_by_recipient[short] or {}) do
    if r.state == State.SENDING and carrier_of(r) == carrier then return true end
  end
  return false
end

-- Return the parts of a message that a receipt of this carrier without a known id may be about: {k, copy or false}.
local function open_at(r, carrier)
  local p, out = parts_of(r), {}
  local here = carrier_of(r) == carrier
  for k = 1, #p, 3 do
    local index, found = (k - 1) / 3, nil
    if p[k] < Part.DELIVERED and copied(r, index) then
      local c = copies_of(r)
      for i = 1, #c, 6 do
        local lost = c[i + 1] == Part.UNKNOWN or (c[i + 1] == Part.ACCEPTED and c[i + 5] == '')
        if lost and c[i] == index and c[i + 4] == carrier then found = i end
      end
    end
    local lost = p[k] == Part.UNKNOWN or (p[k] == Part.ACCEPTED and p[k + 2] == '')
    if here and lost and not copied(r, index) then found = false end
    if found ~= nil then out[#out + 1] = {k, found} end
  end
  return out
end

-- Give a part the id of a receipt, which no answer brought.
local function claim_part(r, part, carrier, carrier_id)
  local k, copy, p = part[1], part[2], parts_of(r)
  r.parts = p
  map_id(r, (k - 1) / 3, carrier, carrier_id)
  if copy then
    local c = copies_of(r)
    note_in_flight(r, p, (k - 1) / 3)
    c[copy + 1], c[copy + 2], c[copy + 5] = Part.ACCEPTED, this_hour(), carrier_id
    merge_copies(r, p, k)
  else
    p[k], p[k + 1], p[k + 2] = Part.ACCEPTED, this_hour(), carrier_id
  end
  touch(r)
end

-- Return what is lost at this carrier on the way to this recipient: {record, its open parts}, …
local function lost_at(carrier, short)
  local ids, out, seen = {}, {}, {}
  local all = call('HGET', P .. 'u:' .. carrier, short) or ''
  for from = 1, #all, 16 do ids[#ids + 1] = sub(all, from, from + 15) end
  for _, id in ipairs((listed[carrier] or {})[short] or {}) do ids[#ids + 1] = id end
  load(ids)
  for i = 1, #ids do
    local r = records[ids[i]]
    if r and not seen[r] and r.final == 0 then
      local parts = open_at(r, carrier)
      if #parts > 0 then out[#out + 1] = {r, parts} end
    end
    if r then seen[r] = true end
  end
  return out
end

-- Tell whether the form of a host's ids is learned by now (gateway/cluster/receipt_id_forms.py).
local function learned(carrier, host)
  return call('HEXISTS', P .. 'f', 'i:' .. carrier .. '\0' .. host) == 1
end

-- Return the receipts parked for this carrier and recipient that no form of an id can explain, in the order they came.
local function waiting_for(carrier, short, sure)
  local all, out = call('HGET', P .. 'kr', parked_under(carrier, short)), {}
  local pos, id = 1, nil
  while all and pos <= #all do
    id, pos = read('>Bc0', all, pos)
    local blob = call('HGET', P .. 'k', parked_under(carrier, short .. id))
    local t = blob and read_parked(blob)
    if t and (sure or t.sure or learned(carrier, t.host)) then out[#out + 1] = t end
  end
  return out
end

-- Return when it was first handed to this carrier so that it was lost or sent; when that is not known, when it last
-- was.
local function written(r, carrier)
  local trail, from, at, last = trail_of(r), 1, nil, accepted_at(r)
  while from < #trail do
    local state, rest = byte(trail, from), byte(trail, from + 7)
    local status, name = 0, ''
    if rest > 0 then status, name = read('>I4Bc0', trail, from + 8) end
    if status < Size.RULED_STEP then -- a move
      if at and (state == State.UNKNOWN or state == State.SENT) then return at end
      at = nil
      if state == State.SENDING and name == carrier then
        at = accepted_at(r) + read('>I5', trail, from + 2)
        last = at
      end
    end
    from = from + 8 + rest
  end
  return last
end

local function agrees(t, r, carrier)
  local excerpt = copies_of(r).excerpt
  return t.at + 1000 > written(r, carrier) and (t.excerpt == '' or excerpt == '' or excerpt == t.excerpt)
end

-- Apply receipts that can only be about the lost parts of this message, if there is one for each of them. A carrier
-- that sends one receipt for the whole message gives it the id of the last part. Names of the receipts used are added
-- to `used`.
local function proven(r, parts, list, carrier, used)
  local last = #parts
  if list[1].whole then
    parts, last = {parts[last]}, parts[last][1] == #parts_of(r) - 2 and 1 or 0
  elseif #list < last then
    return
  end
  for i = 1, last do
    local t, id = list[i], sub(list[i].fields[1], 9)
    claim_part(r, parts[i], carrier, id)
    if not remark_of(t.state) then
      receive(r, (parts[i][1] - 1) / 3, carrier, id, t.state, t.err, t.done, t.whole)
    end
    names_of(carrier, t.fields, used)
  end
  if last > 0 then follow_up(r, carrier, 0) end
  for i = 1, last do -- intermediate ones
    local t = list[i]
    if remark_of(t.state) then receive(r, 0, carrier, sub(t.fields[1], 9), t.state, t.err) end
  end
end

-- Apply receipts of unknown ids that prove a submit whose answer is missing. Such a receipt counts when it can be about
-- nothing else: it came after the write, one message to that recipient is open at that carrier and none is in flight,
-- an excerpt of the text agrees, and of a message of several parts there is one for each open part. It must also be
-- certain that its id is not a known id in another form: the carrier's ids are known by one form (`sure`), or it has
-- never given any. What is proven leaves fewer messages for the other receipts. Messages that one may still be about
-- get the remark AMBIGUOUS_RECEIPT. Names of the receipts used are no longer parked, and are added to `used`.
function prove(carrier, short, used, sure)
  apply_arrived()
  sure = sure or not (id_givers[carrier] or call('SISMEMBER', P .. 'named', carrier) == 1)
  local lost = lost_at(carrier, short)
  local receipts = #lost > 0 and waiting_for(carrier, short, sure) or {}
  if #receipts == 0 or in_flight(carrier, short) then return end
  local fitting, several = {}, {}
  for i = 1, #receipts do
    local whose = {}
    for m = 1, #lost do
      if agrees(receipts[i], lost[m][1], carrier) then whose[#whose + 1] = lost[m] end
    end
    if #whose == 1 then
      local list = group(fitting, whose[1])
      list[#list + 1] = receipts[i]
    elseif #whose > 1 then
      several[#several + 1] = whose
    end
  end
  local names = {}
  for entry, list in pairs(fitting) do
    proven(entry[1], entry[2], list, carrier, names)
  end
  if #names > 0 then
    drop_parked(names)
    for i = 1, #names do used[#used + 1] = names[i] end
    return prove(carrier, short, used, sure)
  end
  for i = 1, #several do
    for _, entry in ipairs(several[i]) do remark(entry[1], Reason.AMBIGUOUS_RECEIPT, carrier, '') end
  end
end

end

-- Make a message unknown: written at this carrier, not answered. A receipt may have proven it meanwhile; else the
-- stricter of the message's and the carrier's on_unknown decides: resend (a bounded number of times, not past its
-- expiry), hold for a receipt first, or never resend.
local function unknown(r, carrier, reason, status, on_unknown)
  touch(r)
  local strict = max(r.on_unknown, on_unknown)
  local again = strict ~= OnUnknown.NEVER and r.resent < settings.resends and now <= r.expires
  r.due = 0
  if again and strict == OnUnknown.HOLD then
    r.due = now + settings.hold
    schedule_sweep(r.id, r.due)
    move(r, State.UNKNOWN, reason, carrier, '', status)
  elseif again or r.cancel > 0 then
    move(r, State.UNKNOWN, reason, carrier, '', status)
  else
    left_unknown(r, Reason.NO_ANSWER, status)
  end
  if call('EXISTS', P .. 'kr') == 1 then
    prove(carrier, short_of(r), {})
    if r.state ~= State.UNKNOWN then return end
  end
  if (again and strict == OnUnknown.HOLD) or not (again or r.cancel > 0) then return end
  if not stopped(r, status) then resend(r) end
end
