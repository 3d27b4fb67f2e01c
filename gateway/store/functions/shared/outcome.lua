-- What an answer, a silence or a receipt makes of a message. Shared by progress, reclaim, strays and sweep.
--
-- The id map: field = first 8 octets of the recipient's key + the carrier's id; value = message id + part.

local INTERMEDIATE = 4294967295 -- stands for the status in a step of the timeline that is no move


-- List it among those that wait for a receipt without a known id.
local function list_lost(r)
  local ids = group(group(listed, carrier_of(r)), short_of(r))
  ids[#ids + 1] = r.id
  r.listed = r.listed + 1 - r.listed % 2
end

-- All parts have receipts: the message ends with the worst of them.
local function settle(r, carrier_id, err)
  local state = verdict_of(r.parts)
  if state then move(r, state, Reason.RECEIPT, carrier_of(r), carrier_id or r.parts[3], 0, err or '') end
end

local function sent(r, status, carrier_id, err)
  r.due, r.pinned = now + settings.receipt, 1
  if r.due < r.expires then look_at(r.id, r.due) end -- else it is looked at when it expires, and then again
  move(r, State.SENT, Reason.NONE, carrier_of(r), r.parts[3], status)
  settle(r, carrier_id, err)
end

-- Refused for good; once a part was accepted the rest has failed.
local function refused(r, state, reason, status)
  if accepted_of(r) > 0 then state, reason = State.FAILED, Reason.PARTIAL end
  move(r, state, reason, carrier_of(r), '', status)
end

-- A cancel was marked while it was at the carrier: it is not sent again.
local function stopped(r, status)
  if r.cancel == 0 then return false end
  refused(r, State.CANCELED, Reason.CANCELED, status)
  return true
end

-- Never written under its last lease: back to its place, unless late answers completed it or a cancel was marked.
local function untaken(r)
  if whole(r) then
    r.parts = parts_of(r)
    sent(r, 0)
  elseif not stopped(r, 0) then
    move(r, State.QUEUED, Reason.UNTAKEN, carrier_of(r))
    push_head(r)
  end
end

-- Written, never answered. The stricter of the message's and the carrier's word decides; one resend at most.
local function unknown(r, reason, status, on_unknown)
  local p, any = parts_of(r), false
  if #p == 0 then p = fresh_parts(max(r.segments, 1)) end
  for k = 1, #p, 3 do any = any or p[k] == Part.UNKNOWN end
  for k = 1, #p, 3 do
    if not any and p[k] == Part.PENDING then p[k] = Part.UNKNOWN end
  end
  r.parts = p
  list_lost(r)
  local strict, carrier = max(r.on_unknown, on_unknown), carrier_of(r)
  if strict == OnUnknown.RESEND and r.resent == 0 then
    r.due = 0
    move(r, State.UNKNOWN, reason, carrier, '', status)
    if stopped(r, status) then return end
    r.resent = 1
    move(r, State.QUEUED, Reason.RESEND, carrier)
    push_head(r)
  elseif strict == OnUnknown.HOLD then
    r.due = now + settings.hold
    look_at(r.id, r.due)
    move(r, State.UNKNOWN, reason, carrier, '', status)
  else
    move(r, State.UNKNOWN, Reason.NO_ANSWER, carrier, '', status, '', true)
  end
end

-- Whoever has begun it ends it: what is delayed moves along to the lane where only that carrier looks. (What is ready
-- does so when it is popped.)
local function pin(r, carrier)
  if r.pinned == 1 then return end
  local delayed = r.state <= State.QUEUED and r.due > 0
  if delayed then undelay(r) end
  r.carrier, r.pinned = carrier, 1
  if delayed then delay(r, r.due) end
end

-- A receipt for one part; done: the carrier's date in seconds, nil when it gave none. Answers what became of it (Match).
local function receive(r, index, carrier, carrier_id, state, err, done)
  if r.final == 1 then return Match.REPEATED end
  if state == Part.ACCEPTED then -- intermediate: noted once per text, moves nothing
    local note = pack('>I4Bc0', INTERMEDIATE, #carrier, carrier) .. sub(err, 1, 64)
    if find(trail_of(r), char(#note) .. note, 1, true) then return Match.REPEATED end
    step(r, r.state, Reason.RECEIPT, carrier, INTERMEDIATE, err)
    touch(r)
    return Match.APPLIED
  end
  local p, k = parts_of(r), index * 3 + 1
  if not p[k] or p[k] >= Part.DELIVERED then return Match.REPEATED end
  p[k] = state
  if done then group(p, 'done')[k] = done end
  touch(r)
  local all = accepted_in(p) * 3 == #p
  if r.state <= State.QUEUED and all then leave(r) end -- before it is pinned, which is another lane
  r.parts = p
  pin(r, carrier_of(r))
  if r.state == State.SENT or (r.state == State.UNKNOWN and verdict_of(p)) then
    settle(r, carrier_id, err)
  elseif all and (r.state == State.UNKNOWN or r.state <= State.QUEUED) then
    sent(r, 0, carrier_id, err) -- the receipt tells what no answer told: there is nothing left to send
  end
  return Match.APPLIED
end

-- A parked receipt lies under carrier + '\\0' + field, once for every form of its id.
local function parked_under(carrier, field)
  return carrier .. '\0' .. field
end

local function carrier_in(name)
  return sub(name, 1, find(name, '\0', 1, true) - 1)
end

-- What stands behind the fields of a packed receipt: state, error text, the carrier's date or nil.
local function end_of_receipt(blob, state, pos)
  if state < Size.DATED then return state, sub(blob, pos) end
  return state - Size.DATED, sub(blob, pos + 4), (read('>I4', blob, pos))
end

-- All fields of the id map (the likeliest first), state, error text and date of a packed receipt.
local function read_receipt(blob)
  local _, state, count, pos = read($RECEIPT, blob)
  local fields = {}
  for i = 1, count do fields[i], pos = read('>Bc0', blob, pos) end
  return fields, end_of_receipt(blob, state, pos)
end

-- Every name that a receipt was parked under is appended to `names`.
local function names_of(carrier, fields, names)
  for k = 1, #fields do names[#names + 1] = parked_under(carrier, fields[k]) end
end
