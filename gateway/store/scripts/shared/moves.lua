-- Moves: the one place where a state changes. Every move raises one event and leaves one step in the timeline.

local events, event_summaries, wheel, releases, unheld

local function cap_key(recipient, cap)
  return P .. 'c:' .. recipient .. sub(cap, 1, 8) .. sub(cap, 13, 16)
end

-- Have sweep look at this id (or at all of these) once `at` has come.
local function schedule_sweep(id, at, ids)
  local list = group(wheel, max(floor(at / 60000), floor(now / 60000)) + 1)
  local n = #list
  if not ids then
    list[n + 1] = id
    return
  end
  for i = 1, #ids do list[n + i] = ids[i] end
end



-- step: state, reason, ms since acceptance (5 octets), length of the rest: status, carrier, error.
local function step(r, state, reason, carrier, status, err)
  local after = max(now - accepted_at(r), 0)
  if carrier == '' and status == 0 and err == '' then
    r.steps = r.steps .. pack('>BBI5B', state, reason, after, 0)
  else
    if #err > 64 then err = sub(err, 1, 64) end
    r.steps = r.steps
      .. pack('>BBI5BI4Bc0c0', state, reason, after, 5 + #carrier + #err, status, #carrier, carrier, err)
  end
end

-- What policy said goes into the step that its decision has just made, which has nothing else to tell.
local function annotate(r, note)
  if note ~= '' then r.steps = sub(r.steps, 1, -2) .. pack('>BI4B', 5 + #note, Size.RULED_STEP, 0) .. note end
end

-- Whether webhooks follow the events.
local function followed()
  if event_summaries.followed == nil then
    local g = call('HMGET', P .. 'g', 'webhooks', 'all')
    event_summaries.followed, event_summaries.any_want_all, event_summaries.wants_all = g[1] ~= false, g[2] ~= false, {}
  end
  return event_summaries.followed
end

-- Whether this account wants every move, not only final ones.
local function wants_all(account)
  if not followed() or not event_summaries.any_want_all then return false end
  if event_summaries.wants_all[account] == nil then
    event_summaries.wants_all[account] = call('SISMEMBER', P .. 'gw', account) == 1
  end
  return event_summaries.wants_all[account]
end

-- Account for the next event, r's, of `size` octets. With `whole` its message's summary as of this move is added, so
-- that the record, which may have moved on, is not looked up: where the event lies, segments, the carrier's date and
-- id, the sealed envelope.
local function add_summary(r, size, whole)
  if whole and followed() then
    local from, p = Size.ACCOUNT_AT + r.account_len + r.route_len, parts_of(r)
    local carrier_id = p[3] or ''
    event_summaries[#event_summaries + 1] = pack(Format.SUMMARY, event_summaries.offset, r.segments, latest(p), #carrier_id, r.envelope_len)
    event_summaries[#event_summaries + 1] = carrier_id
    event_summaries[#event_summaries + 1] = sub(r.raw, from + 1, from + r.envelope_len)
  end
  event_summaries.offset = event_summaries.offset + size
end

local function raise(r, previous, carrier, carrier_id, status, err)
  local account = account_of(r)
  local event = pack('>c16I4BBBBI4BBBBBc0c0c0c0', r.id, r.sequence, r.state, previous, r.reason, r.final,
    status, accepted_of(r), #account, #carrier, #carrier_id, #err, account, carrier, carrier_id, err)
  events[#events + 1] = event
  add_summary(r, #event, r.final == 1 or wants_all(account))
end

-- What every end brings: content and permission go, caps are given back when nothing was sent, deletion is planned.
local function finish(r)
  if r.reserved == 1 and untouched(r) then
    local from = permission_at(r)
    for pos = from + Size.PERMISSION_SIZE + 1, from + r.permission_len, Size.CAP_SIZE do
      releases[#releases + 1] = cap_key(recipient_of(r), sub(r.raw, pos, pos + Size.CAP_SIZE - 1))
      releases[#releases + 1] = r.id
    end
    r.reserved = 0
  end
  r.final, r.bare, r.due = 1, true, now + settings.finished
  schedule_sweep(r.id, r.due)
end

-- opts: carrier, carrier_id, status, err ('' and 0 when left out). Final states finish; so does `in_place`.
local function move(r, state, reason, carrier, carrier_id, status, err, in_place)
  local previous = r.state
  carrier, carrier_id, status, err = carrier or '', carrier_id or '', status or 0, err or ''
  r.state, r.reason, r.sequence = state, reason, r.sequence + 1
  if state >= State.DELIVERED or in_place then finish(r) end
  recount(r)
  -- The timeline names the carrier when it gets the message, and then only when somebody else spoke.
  step(r, state, reason, (state == State.SENDING or carrier ~= carrier_of(r)) and carrier or '', status, err)
  raise(r, previous, carrier, carrier_id, status, err)
  touch(r)
end

-- A waiting message leaves where it waits. (Ready lists are left lazily: take skips what is not QUEUED.)
local function leave(r)
  undelay(r)
  if r.state == State.HELD then unheld[#unheld + 1] = r.id end
  r.due = 0
end

-- What waits ends; what is at a carrier is marked and not sent again. Answers what became of it (Cancel).
local function cancel_one(r)
  if not r then return Cancel.MISSING end
  if r.state == State.CANCELED then return Cancel.CANCELED end
  if r.final == 1 then return Cancel.FINAL end
  if r.state <= State.QUEUED then
    leave(r)
    move(r, State.CANCELED, Reason.CANCELED)
    return Cancel.CANCELED
  end
  if r.cancel == 0 then
    r.cancel = 1
    touch(r)
  end
  return Cancel.REQUESTED
end
