-- What an answer, a missing answer or a receipt makes of a message (progress, reclaim, untake_lost, regate, sweep).
--
-- The id map: field = first 8 octets of the recipient's key + the carrier's id; value = message id + part, one after
-- the other for each message that the id may belong to; part 255 stands for all parts that were given the id.

local EVERY = 255

local function this_hour()
  return floor(now / 3600000)
end

-- Map an id to a part.
local function map_id(r, index, carrier, carrier_id)
  local list = group(mapped, carrier)
  local n = #list
  list[n + 1], list[n + 2] = short_of(r) .. carrier_id, r.id .. char(index)
  return list[n + 1]
end

-- List it among the messages that wait for a receipt without a known id.
local function list_lost(r)
  local ids = group(group(listed, carrier_of(r)), short_of(r))
  ids[#ids + 1] = r.id
  r.listed = r.listed + 1 - r.listed % 2
end

-- End it when the receipts that have arrived decide it.
local function end_by_receipts(r, carrier_id, err)
  local state = verdict_of(r.parts)
  if state then move(r, state, Reason.RECEIPT, carrier_of(r), carrier_id or r.parts[3], 0, err or '') end
end

local function sent(r, status, carrier_id, err)
  set_carrier_to_holder(r)
  r.due, r.pinned = now + settings.receipt, 1
  if r.due < r.expires then schedule_sweep(r.id, r.due) end -- else sweep looks at it when it expires, and then again
  move(r, State.SENT, Reason.NONE, carrier_of(r), r.parts[3], status)
  end_by_receipts(r, carrier_id, err)
end

-- Leave it unknown: nothing more is sent, and a copy may have arrived. Not final before the time for receipts is over.
local function left_unknown(r, reason, status)
  r.due, r.bare = now + settings.receipt, true
  schedule_sweep(r.id, r.due)
  move(r, State.UNKNOWN, reason, carrier_of(r), '', status)
end

-- End it for another reason than the carrier's receipt: refused, expired, dropped by the gate. When a copy may be on
-- the wire it is unknown; when a part was accepted the rest has failed.
local function ended(r, state, reason, status)
  if unresolved(r) then return left_unknown(r, reason, status) end
  if state == State.REJECTED and accepted_of(r) > 0 then state = State.FAILED end
  move(r, state, reason, carrier_of(r), '', status)
end

local function refused(r, state, reason, status)
  if accepted_of(r) > 0 then state, reason = State.FAILED, Reason.PARTIAL end
  ended(r, state, reason, status)
end

-- End it when it was marked at the carrier: canceled, or stopped by the gate. Return whether it was.
local function stopped(r, status)
  local mark = r.cancel
  if mark == 0 then return false end
  if mark < Size.STOPPED then
    if accepted_of(r) > 0 then
      ended(r, State.FAILED, Reason.PARTIAL, status)
    else
      move(r, State.CANCELED, Reason.CANCELED, carrier_of(r), '', status)
    end
  else
    ended(r, State.FAILED, mark - Size.STOPPED, status)
  end
  return true
end

-- Settle a message whose lease is over. Return whether nothing is left to send: every part is accepted, or one has
-- failed.
local function completed(r, status)
  if not r.parts and r.parts_len == 0 then return false end
  local p = parts_of(r)
  r.parts = p
  merge_all_copies(r, p)
  local accepted = accepted_in(p)
  if accepted > 0 and r.pinned == 0 then
    set_carrier_to_holder(r)
    r.pinned = 1
  end
  if accepted > 0 and accepted * 3 == #p then
    sent(r, status)
    return true
  end
  if not verdict_of(p) then return false end
  end_by_receipts(r)
  return true
end

-- Close a lease under which nothing was written. Return whether the message ended: late answers completed it, or it was
-- marked.
local function ended_meanwhile(r)
  close_lease(r)
  return completed(r, 0) or stopped(r, 0)
end

-- Return an unwritten message to its place, unless it has ended.
local function return_to_lane(r)
  if ended_meanwhile(r) then return end
  move(r, State.QUEUED, Reason.UNTAKEN, carrier_of(r))
  push_head(r)
end

-- Queue what is unknown again: it becomes a copy of its own, and its parts are to be sent again.
local function resend(r)
  local p, carrier = parts_of(r), carrier_of(r)
  for k = 1, #p, 3 do
    if p[k] == Part.UNKNOWN then
      if not own_copy(r, (k - 1) / 3) then add_copy(r, (k - 1) / 3, Part.UNKNOWN, 0, carrier, '') end
      p[k] = Part.PENDING
    end
  end
  r.parts, r.due, r.resent = p, 0, min(r.resent + 1, 255)
  move(r, State.QUEUED, Reason.RESEND, carrier)
  push_head(r)
end

-- Resend a message that was held for a receipt, or leave it unknown.
local function hold_over(r)
  if stopped(r, 0) then return end
  if now > r.expires or r.resent >= settings.resends then return left_unknown(r, Reason.NO_ANSWER, 0) end
  resend(r)
end

-- Pin it to the carrier that has accepted a part. What is delayed moves to the lane that only this carrier serves; what
-- is ready does so when it is popped.
local function pin(r, carrier)
  if r.pinned == 1 then return end
  local delayed = r.state <= State.QUEUED and r.due > 0
  if delayed then undelay(r) end
  set_carrier(r, carrier)
  r.pinned = 1
  if delayed then delay(r, r.due) end
end

-- Tell whether this remark is in the timeline.
local function noted(r, reason, note)
  local trail, from = trail_of(r), 1
  while from < #trail do
    local rest = byte(trail, from + 7)
    if byte(trail, from + 1) == reason and sub(trail, from + 8, from + 7 + rest) == note then return true end
    from = from + 8 + rest
  end
  return false
end

-- Note what a receipt says without a move, once per text. The reason of a SENT message is its last remark. Return what
-- was done (Match).
local function remark(r, reason, carrier, err)
  local note = pack('>I4Bc0', Size.INTERMEDIATE_STEP, #carrier, carrier) .. sub(err, 1, 64)
  local counts = r.state == State.SENT and r.reason == Reason.NONE and reason ~= Reason.RECEIPT -- noted before it was sent
  if not counts and noted(r, reason, note) then return Match.REPEATED end
  if r.state == State.SENT and reason ~= Reason.RECEIPT then r.reason = reason end
  step(r, r.state, reason, carrier, Size.INTERMEDIATE_STEP, err)
  touch(r)
  return Match.APPLIED
end

local REMARKS -- state in a receipt -> reason of the remark

local function remark_of(state)
  REMARKS = REMARKS or {
    [Part.ACCEPTED] = Reason.RECEIPT, [Part.RECEIPT_UNKNOWN] = Reason.RECEIPT_UNKNOWN,
    [Part.RECEIPT_UNREADABLE] = Reason.RECEIPT_UNREADABLE,
  }
  return REMARKS[state]
end

-- Follow up on news of a copy of a message that is not in flight; for one in flight its answer does.
local function follow_up(r, carrier, status, carrier_id, err)
  if r.final == 1 or r.state == State.SENDING then return end
  local p = parts_of(r)
  local accepted, verdict = accepted_in(p), verdict_of(p)
  local all, waits = accepted * 3 == #p, r.state <= State.QUEUED
  if waits and (all or verdict) then leave(r) end -- before it is pinned, which changes its lane
  if accepted > 0 then pin(r, carrier) end
  if verdict and not (waits and all) then
    end_by_receipts(r, carrier_id, err)
  elseif all and r.state ~= State.SENT then
    sent(r, status, carrier_id, err)
  end
end

-- Tell whether this carrier gave a part this id; and whether what was given it has no final receipt yet.
local function was_given(r, p, k, carrier, carrier_id)
  local index, given, open_ = (k - 1) / 3, false, false
  if not copied(r, index) then return p[k + 2] == carrier_id, p[k] < Part.DELIVERED end
  local c = copies_of(r)
  for i = 1, #c, 6 do
    if c[i] == index and c[i + 4] == carrier and c[i + 5] == carrier_id then
      given, open_ = true, open_ or c[i + 1] < Part.DELIVERED
    end
  end
  return given, open_
end

-- Apply a final receipt to one part: to all its copies with this id; id nil: to the first that is open at that carrier.
-- Return whether anything changed.
local function apply_final(r, p, k, carrier, carrier_id, state, done)
  if not p[k] or p[k] >= Part.DELIVERED then return false end
  local index = (k - 1) / 3
  if copied(r, index) then
    local c, hit, own = copies_of(r), false, nil
    note_in_flight(r, p, index)
    if r.state == State.SENDING then own = own_copy(r, index) end
    for i = 1, #c, 6 do
      local matches = c[i + 4] == carrier and (not carrier_id or c[i + 5] == carrier_id) and i ~= own
      if c[i] == index and matches and c[i + 1] < Part.DELIVERED and not (hit and not carrier_id) then
        c[i + 1], hit = state, true
      end
    end
    if not hit then return false end
    merge_copies(r, p, k)
  elseif carrier_id and p[k + 2] ~= carrier_id then
    return false
  else
    p[k] = state
  end
  if done then group(p, 'done')[k] = done end
  return true
end

-- Apply a final receipt to the parts it is about: the part its id was given to, all parts that share it, or all parts
-- when it speaks for the whole message and the last part has the id. The others then have their receipt with that one;
-- a repeat does not count for them.
local function apply_final_to_all(r, p, index, carrier, carrier_id, state, done, whole_)
  local all = whole_ and #p > 0 and was_given(r, p, #p - 2, carrier, carrier_id)
  if index ~= EVERY and not all then return apply_final(r, p, index * 3 + 1, carrier, carrier_id, state, done) end
  local changed, others = false, {}
  for k = 1, #p, 3 do
    if was_given(r, p, k, carrier, carrier_id) then
      changed = apply_final(r, p, k, carrier, carrier_id, state, done) or changed
    elseif all and (copied(r, (k - 1) / 3) or (p[k] ~= Part.PENDING and carrier == carrier_of(r))) then
      others[#others + 1] = k
    end
  end
  for i = 1, changed and #others or 0 do apply_final(r, p, others[i], carrier, nil, state, done) end
  return changed
end

-- Apply a receipt. index: the part that its id was given to; done: the carrier's date in seconds, nil = none; whole_:
-- it speaks for the whole message. Return what was done (Match).
local function receive(r, index, carrier, carrier_id, state, err, done, whole_)
  if r.final == 1 then return Match.REPEATED end
  local remarked, p = remark_of(state), parts_of(r)
  if remarked then
    for k = 1, #p, 3 do
      local given, open_ = was_given(r, p, k, carrier, carrier_id)
      if given and open_ then return remark(r, remarked, carrier, err) end
    end
    return Match.REPEATED -- it has its final receipt
  end
  if not apply_final_to_all(r, p, index, carrier, carrier_id, state, done, whole_) then return Match.REPEATED end
  touch(r)
  r.parts = p
  follow_up(r, carrier, 0, carrier_id, err)
  return Match.APPLIED
end
