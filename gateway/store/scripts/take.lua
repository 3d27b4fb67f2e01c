-- take: wakes what is due, pops the oldest message of the account whose turn it is, gates it, reserves it under its
-- caps and leases it to the owner.
--
-- ARGV   settings, owner, carrier, on_unknown of the carrier, most parts, how many of these are kept for one-time
--        passwords, 1 for a probe; then lanes in order: route, place, priority
-- reply  {lease, token, dropped, more (0/1), next due, leased: {id, record, …}, redecide: {id, record, reason, …}}
--        Records are as they were before the take. All that one take leases share its lease, all it hands back its
--        token.
--        Leased:   SENDING under this lease, listed in x:<owner>.
--        Redecide: unchanged but for due = token = now + 5 s, at which instant another take may get it.
--        Dropped:  ended by the gate.
-- Not idempotent: a repeat takes other messages. Those of a lost reply are reclaimed when their owner is dead, or put
-- back by untake_lost.
--
-- A probe of a carrier that may be failing leases at most one message: one that may be sent again when it is lost, and
-- in each lane the one that was resent least.

local SCAN = 1000 -- messages looked at in one take
local QUANTUM = 16 -- messages in a row from one account while others wait
local WOKEN = 200 -- delayed messages woken in a lane by one take
local PROBED = 32 -- messages of an account among which a probe chooses
local REDECIDED = 200 -- messages handed back by one take; the rest by the next

-- Return when the first of a lane's delayed messages is due; nil when there is none.
local function first_due(lane)
  return tonumber(call('ZRANGE', P .. 'y:' .. lane, 0, 0, 'WITHSCORES')[2])
end

-- Wake what is due: retries become ready (written at once, as this take may pop them), the rest is to be decided again.
local function wake(lane, take_)
  local key, first = P .. 'y:' .. lane, first_due(lane)
  take_.dues[lane] = first
  if not first or first > now then return end
  take_.changed[lane] = true
  local due = call('ZRANGE', key, '-inf', now, 'BYSCORE', 'LIMIT', 0, WOKEN, 'WITHSCORES')
  local ids = {}
  for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
  if #ids == WOKEN then take_.more = 1 end
  load(ids)
  local removed = {}
  for i = 1, #due, 2 do
    local r = records[due[i]]
    if not r or r.due ~= tonumber(due[i + 1]) or r.state > State.QUEUED then
      removed[#removed + 1] = due[i] -- has left this lane
    elseif r.state == State.QUEUED then
      removed[#removed + 1] = due[i]
      r.due = 0 -- ready now; a late decision no longer has its token
      touch(r)
      push_head(r)
    elseif now > r.expires then
      leave(r)
      ended(r, State.EXPIRED, Reason.EXPIRED, 0)
      take_.dropped = take_.dropped + 1
    else
      take_.redecide(r, r.reason, lane)
    end
  end
  if #removed > 0 then spread('ZREM', key, removed) end
  for _, accounts in pairs(pushes) do
    for _, queue in pairs(accounts) do queue.refund = 0 end
  end
end

-- Return the accounts of a lane that have something ready: {name, tag, entries of its list looked at, drained}.
local function accounts_of(lane)
  local all, out = call('ZRANGE', P .. 'l:' .. lane, 0, 63, 'WITHSCORES'), {}
  for i = 1, #all, 2 do out[#out + 1] = {name = all[i], tag = tonumber(all[i + 1]), looked = 0} end
  return out
end

local function fairest(accounts)
  local best
  for i = 1, #accounts do
    local account = accounts[i]
    if not account.drained and (not best or account.tag < best.tag) then best = account end
  end
  return best
end

-- Gate one message popped from a lane. Return how many parts of the budget it uses.
local function hand_out(r, lane, take_)
  if r.pinned == 1 and lane ~= lane_of(r) then
    push_tail(r) -- it was pinned while it waited here: to the lane of its carrier
    return 0
  end
  local good, state, reason = gate(r)
  if not good then
    if state then
      ended(r, state, reason, 0)
      take_.dropped = take_.dropped + 1
    else
      take_.redecide(r, reason, lane)
    end
    return 0
  end
  local parts = open_parts(r)
  take_.leased[#take_.leased + 1] = r.id
  take_.leased[#take_.leased + 1] = r.raw
  r.carrier, r.lease, r.due = take_.carrier, take_.lease, 0
  move(r, State.SENDING, Reason.NONE, take_.carrier)
  return parts
end

-- Empty a lane in fair order until `budget` parts are handed out. Return what is left of the budget.
local function drain(lane, budget, take_)
  local accounts, clock_ = accounts_of(lane), nil
  if #accounts == 0 then return budget end
  while budget > 0 and take_.scans_left > 0 and take_.redecides_left > 0 do
    local account = fairest(accounts)
    if not account then break end
    local chunk = min(#accounts > 1 and QUANTUM or budget, budget, take_.scans_left, 1000)
    local ids = call('LRANGE', queue_key(lane, account.name), account.looked, account.looked + chunk - 1)
    account.drained = #ids < chunk
    load(ids)
    local ready = {}
    for i = 1, #ids do
      local r = records[ids[i]]
      if r then ready[#ready + 1] = r end
    end
    load_rules(ready)
    clock_ = max(clock_ or account.tag, account.tag)
    for i = 1, #ids do
      if budget <= 0 or take_.redecides_left <= 0 then
        account.drained = false
        break
      end
      local r = records[ids[i]]
      account.looked = account.looked + 1
      take_.scans_left = take_.scans_left - 1
      if r and r.state == State.QUEUED and r.due <= now then
        local parts = hand_out(r, lane, take_)
        budget = budget - parts
        account.tag = account.tag + parts / r.weight
      end
    end
  end
  local tags, left = {'', clock_ or 0}, false
  for i = 1, #accounts do
    local account = accounts[i]
    if account.looked > 0 or account.drained then
      local key = queue_key(lane, account.name)
      call('LTRIM', key, account.looked, -1)
      account.drained = account.drained or call('EXISTS', key) == 0
      if account.drained then
        call('ZREM', P .. 'l:' .. lane, account.name)
      else
        call('ZADD', P .. 'l:' .. lane, account.tag, account.name)
      end
      tags[#tags + 1] = account.name
      tags[#tags + 1] = account.tag
    end
    left = left or not account.drained
  end
  if left then take_.more = 1 end
  if clock_ then spread('HSET', P .. 't:' .. lane, tags) end
  return budget
end

-- Lease one message that may be risked at a carrier that may be failing. Return whether there was one.
local function probe(lane, take_)
  local best, queue, resends = nil, nil, settings.resends
  for _, account in ipairs(accounts_of(lane)) do
    local ids = call('LRANGE', queue_key(lane, account.name), 0, PROBED - 1)
    load(ids)
    for i = 1, #ids do
      local r = records[ids[i]]
      local may = r and r.state == State.QUEUED and r.due <= now and max(r.on_unknown, take_.on_unknown) < OnUnknown.NEVER
      if may and lane == lane_of(r) and r.resent < resends then
        best, queue, resends = r, queue_key(lane, account.name), r.resent
      end
    end
    if best and resends == 0 then break end
  end
  if not best then return false end
  load_rules({best})
  local r = best
  call('LREM', queue, 1, r.id)
  local parts = hand_out(r, lane, take_)
  if parts == 0 and call('EXISTS', queue) == 0 then take_.more = 1 end
  return parts > 0
end

-- Return the requested lanes that have ever held something, in order: {name, whether it is for one-time passwords}.
local function lanes_asked(args, carrier)
  local names, otps, lanes, pinned = {}, {}, {}, {}
  for i = 8, #args, 3 do
    local n, otp = #names, tonumber(args[i + 2]) == Priority.OTP
    local own = args[i] .. '@' .. carrier .. ':' .. args[i + 2]
    if not pinned[own] then
      pinned[own], names[n + 1], otps[n + 1], n = true, own, otp, n + 1
    end
    names[n + 1], otps[n + 1] = args[i] .. '#' .. args[i + 1] .. ':' .. args[i + 2], otp
  end
  if #names == 0 then return lanes end
  local known = spread_read('SMISMEMBER', P .. 'lanes', names)
  for i = 1, #names do
    if known[i] == 1 then lanes[#lanes + 1] = {names[i], otps[i]} end
  end
  return lanes
end

-- Return the earliest instant at which something wakes in these lanes; 0 = never. Read again where this take has
-- changed it.
local function next_due(lanes, take_)
  local next_ = 0
  for i = 1, #lanes do
    local lane = lanes[i][1]
    local due = take_.dues[lane]
    if take_.changed[lane] then due = first_due(lane) end
    if due and (next_ == 0 or due < next_) then next_ = due end
  end
  return next_
end

local function take(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NAME, NUMBER, NUMBER, NUMBER, NUMBER}, {NAME, NUMBER, NUMBER})
  local _, owner, carrier, on_unknown, limit, keep, is_probe = unpack_(args, 1, 7)
  on_unknown, limit, keep = tonumber(on_unknown), tonumber(limit), tonumber(keep)
  local token, redecide = now + TOKEN_LIFE, {}
  local take_ = {
    carrier = carrier, on_unknown = on_unknown, lease = tonumber(call('GET', P .. 'lease') or 0) + 1, leased = {},
    dropped = 0, more = 0, scans_left = SCAN, redecides_left = REDECIDED, dues = {}, changed = {},
  }
  function take_.redecide(r, reason, lane)
    redecide[#redecide + 1] = r.id
    redecide[#redecide + 1] = r.raw
    redecide[#redecide + 1] = reason
    take_.redecides_left, take_.changed[lane] = take_.redecides_left - 1, true
    r.due = token
    local list = group(delays, lane)
    list[#list + 1] = token
    list[#list + 1] = r.id
    touch(r)
  end

  local lanes = lanes_asked(args, carrier)
  load_flags()
  for i = 1, #lanes do wake(lanes[i][1], take_) end
  local later, off = delays, undelays
  delays, undelays = {}, {}
  write_lanes()
  delays, undelays = later, off
  for i = 1, #lanes do
    local lane, spare = lanes[i][1], lanes[i][2] and 0 or keep
    if is_probe == '1' then
      if probe(lane, take_) then break end
    elseif limit > spare then
      limit = drain(lane, limit - spare, take_) + spare
    elseif call('EXISTS', P .. 'l:' .. lane) == 1 then
      take_.more = 1
    end
  end

  if #take_.leased > 0 then
    local ids = {}
    for i = 1, #take_.leased, 2 do ids[#ids + 1] = take_.leased[i] end
    call('SET', P .. 'lease', take_.lease)
    call('HSET', P .. 'x:' .. owner, take_.lease,
      pack('>BBc0', on_unknown, #carrier, carrier) .. concat(ids), 'n' .. take_.lease, #ids)
  end
  call('HSET', P .. 'b', owner, now)
  commit()
  return {take_.lease, token, take_.dropped, take_.more, next_due(lanes, take_), take_.leased, redecide}
end
