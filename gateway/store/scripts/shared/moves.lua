-- Moves: the one place where a state changes. Every move raises one event and adds one step to the timeline.

local events, event_summaries, wheel, releases, unheld

local function cap_key(recipient, cap)
  return P .. 'c:' .. recipient .. sub(cap, 1, 8) .. sub(cap, 13, 16)
end

-- Have sweep look at this id (or at all of `ids`) once `at` has come.
local function schedule_sweep(id, at, ids)
  local list = group(wheel, max(floor(at / 60000), floor(now / 60000)) + 1)
  local n = #list
  if not ids then
    list[n + 1] = id
    return
  end
  for i = 1, #ids do list[n + i] = ids[i] end
end



-- Add a step: state, reason, ms since acceptance (5 octets), length of the rest: status, carrier, error.
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

-- Put the details of a policy decision into the step that it has just made, which has nothing else to say.
local function annotate(r, note)
  if note ~= '' then r.steps = sub(r.steps, 1, -2) .. pack('>BI4B', 5 + #note, Size.RULED_STEP, 0) .. note end
end

-- Tell whether webhooks follow the events.
local function followed()
  if event_summaries.followed == nil then
    local g = call('HMGET', P .. 'g', 'webhooks', 'all')
    event_summaries.followed, event_summaries.any_want_all, event_summaries.wants_all = g[1] ~= false, g[2] ~= false, {}
  end
  return event_summaries.followed
end

-- Tell whether this account wants every event, not only final ones.
local function wants_all(account)
  if not followed() or not event_summaries.any_want_all then return false end
  local wanting = event_summaries.wants_all
  if wanting[account] == nil then wanting[account] = call('SISMEMBER', P .. 'gw', account) == 1 end
  return wanting[account]
end

-- Note that the next event, of so many octets, is r's. With `whole` add a summary of the message as it is at this move:
-- where the event begins, segments, the carrier's date and id, the sealed envelope. The record would say later things.
local function add_summary(r, size, whole)
  if whole and followed() then
    local from, p = Size.ACCOUNT_AT + r.account_len + r.route_len, parts_of(r)
    local carrier_id = p[3] or ''
    local n, offset = #event_summaries, event_summaries.offset
    event_summaries[n + 1] = pack(Format.SUMMARY, offset, r.segments, latest(p), #carrier_id, r.envelope_len)
    event_summaries[n + 2] = carrier_id
    event_summaries[n + 3] = sub(r.raw, from + 1, from + r.envelope_len)
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

-- Finish a message: content and permission are cut off, caps are given back when nothing was sent, deletion is
-- scheduled.
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

-- Move a message to a state. carrier, carrier_id, err default to '', status to 0. Final states finish it; so does
-- `in_place`.
local function move(r, state, reason, carrier, carrier_id, status, err, in_place)
  local previous = r.state
  carrier, carrier_id, status, err = carrier or '', carrier_id or '', status or 0, err or ''
  r.state, r.reason, r.sequence = state, reason, r.sequence + 1
  if state >= State.DELIVERED or in_place then finish(r) end
  recount(r)
  -- The timeline names the carrier when it gets the message, then only when another one answers.
  step(r, state, reason, (state == State.SENDING or carrier ~= carrier_of(r)) and carrier or '', status, err)
  raise(r, previous, carrier, carrier_id, status, err)
  touch(r)
end

-- Take a waiting message from where it waits. (Ready lists are left lazily: take skips what is not QUEUED.)
local function leave(r)
  undelay(r)
  if r.state == State.HELD then unheld[#unheld + 1] = r.id end
  r.due = 0
end

-- Cancel a message that waits; mark one that is at a carrier, so that it is not sent again. Return what was done
-- (Cancel).
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
