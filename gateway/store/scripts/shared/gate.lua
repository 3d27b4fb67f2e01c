-- The gate: what take and regate check of every message, looked up at that moment.

local rules, flags, guarded, caps, reserved

local function load_flags()
  flags, guarded = {}, false
  local all = call('HGETALL', P .. 'f')
  for i = 1, #all, 2 do
    flags[all[i]] = tonumber(all[i + 1])
    guarded = guarded or find(all[i], '^[bp]') ~= nil -- a breaker or a pulled template: see keys.py
  end
end

-- Load the rules of these records' recipients with one HMGET.
local function load_rules(list)
  local keys = {}
  for i = 1, #list do
    local r = list[i]
    local recipient = r.checks > 0 and recipient_of(r)
    if recipient and rules[recipient] == nil then
      rules[recipient] = ''
      keys[#keys + 1] = recipient
    end
  end
  if #keys == 0 then return end
  local values = spread_read('HMGET', P .. 'r', keys)
  for i = 1, #keys do rules[keys[i]] = values[i] or '' end
end

-- Return the reason to refuse (consent, opt-out from marketing, opt-out from everything), or nil.
local function objection(checks, packed, account, brand)
  local consent = checks % 2 == 1 and Reason.CONSENT_MISSING
  for pos = 1, #packed, Size.RULE_SIZE do
    local topic, status, scope, _, until_ = read(Format.RULE, packed, pos)
    if until_ == 0 or now < until_ then
      if topic == Group.CONSENT then
        if consent and scope == brand then consent = status == Status.STOPS and Reason.CONSENT_REVOKED or nil end
      elseif status == Status.STOPS and (scope == brand or scope == account or scope == '\0\0\0\0\0\0\0\0') then
        local bit_ = topic == Group.MARKETING and Check.MARKETING_OPT_OUT or Check.ALL_OPT_OUT
        if checks % (bit_ * 2) >= bit_ then return Reason.OPTED_OUT end
      end
    end
  end
  return consent or nil
end

-- Return the reservations under a cap that still count: instant (8 octets) and id of each, oldest first.
local function reservations(key, window)
  local kept = caps[key]
  if not kept then
    kept = call('GET', key) or ''
    local from = 1
    while from < #kept and read('>I8', kept, from) <= now - window * 1000 do from = from + 24 end
    kept = sub(kept, from)
    caps[key] = kept
  end
  return kept
end

-- Reserve under all caps. Return false, with nothing reserved, when one of them is full.
local function reserve(r)
  local from, room = permission_at(r), {}
  for pos = from + Size.PERMISSION_SIZE + 1, from + r.permission_len, Size.CAP_SIZE do
    local cap = sub(r.raw, pos, pos + Size.CAP_SIZE - 1)
    local _, limit, window = read(Format.CAP, cap)
    local key = cap_key(recipient_of(r), cap)
    if #reservations(key, window) / 24 >= limit then return false end
    room[key] = window
  end
  for key, window in pairs(room) do
    caps[key] = caps[key] .. pack('>I8', now) .. r.id
    reserved[key] = window
  end
  r.reserved = 1
  return true
end

local function write_caps()
  for key, window in pairs(reserved) do call('SET', key, caps[key], 'PX', window * 1000) end
end

-- Return true when it may be sent; else false with a final state and its reason, or false, nil and the reason to decide
-- again. `begun`: parts of it are on the wire, so nothing is reserved, and a new epoch is no reason.
local function gate(r, begun)
  if now > r.expires then return false, State.EXPIRED, Reason.EXPIRED end
  local opens, closes, epoch, pos = read('>I8I8I4', r.raw, permission_at(r) + 1)
  if epoch < (flags.epoch or 0) and not begun then return false, nil, Reason.NONE end
  local checks, packed, account, brand, template = r.checks, '', nil, nil, nil
  if checks > 0 then packed = rules[recipient_of(r)] end
  if packed ~= '' or guarded then account, brand, template = read('>c8c8c8', r.raw, pos) end
  if checks > 0 then
    local reason = objection(checks, packed, account, brand)
    if reason then return false, State.REJECTED, reason end
  end
  if flags.restored and accepted_at(r) < flags.restored then return false, nil, Reason.RESTORED end
  if guarded then
    if flags['p' .. template] then return false, State.REJECTED, Reason.CONTENT_REFUSED end
    local watched = r.checks % (Check.BREAKER * 2) >= Check.BREAKER -- breakers never stop a one-time password
    if watched and (flags['b' .. account] or flags['b' .. brand] or flags['b' .. template]
      or flags['b\0\0\0\0\0\0\0\0']) then
      return false, nil, Reason.BREAKER_OPEN
    end
  end
  if now < opens or now >= closes then return false, nil, Reason.QUIET_HOURS end
  if not begun and r.reserved == 0 and r.permission_len > Size.PERMISSION_SIZE and not reserve(r) then
    return false, nil, Reason.FREQUENCY_CAP
  end
  return true
end
