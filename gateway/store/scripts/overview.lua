-- overview: replies how long the messages of this partition have waited, or whose are held. Read only.
--
-- ARGV   none for the lanes; where to start in the list of held messages for those
-- reply  lanes: {now, when the oldest held message was accepted (0 = none),
--                then per lane {lane, delayed, next due, {account, ready, when its oldest was accepted, …}}}
--        held:  {where to continue (-1 = done), account, scope of account, scope of brand, count, oldest accepted, …}
--
-- The oldest of an account is looked for among its first 16, as canceled messages stay listed until a take skips them;
-- when none of the 16 is ready, the last of them stands for the rest.

local function overview(keys, args)
  begin(keys)
  if args[1] then
    local from, groups, reply = tonumber(args[1]), {}, {-1}
    local ids = call('ZRANGE', P .. 'held', from, from + 499)
    if #ids == 500 then reply[1] = from + 500 end
    load(ids)
    for i = 1, #ids do
      local r = records[ids[i]]
      if r and r.state == State.HELD then
        local at, account = permission_at(r) + Size.SCOPES_AT, account_of(r)
        local scopes = sub(r.raw, at + 1, at + 16)
        local found = groups[account .. scopes]
        if not found then
          found = {account, sub(scopes, 1, 8), sub(scopes, 9), 0, accepted_at(r)}
          groups[account .. scopes] = found
        end
        found[4], found[5] = found[4] + 1, min(found[5], accepted_at(r))
      end
    end
    for _, found in pairs(groups) do
      for k = 1, 5 do reply[#reply + 1] = found[k] end
    end
    return reply
  end
  local oldest = call('ZRANGE', P .. 'held', 0, 0, 'WITHSCORES')
  local reply, lanes = {now, tonumber(oldest[2] or 0)}, call('SMEMBERS', P .. 'lanes')
  for i = 1, #lanes do
    local lane, ready = lanes[i], {}
    local accounts = call('ZRANGE', P .. 'l:' .. lane, 0, -1)
    for k = 1, #accounts do
      local key, first = queue_key(lane, accounts[k]), nil
      local ids = call('LRANGE', key, 0, 15)
      load(ids)
      for j = 1, #ids do
        local r = records[ids[j]]
        if r and r.state == State.QUEUED and r.due <= now then
          first = min(first or accepted_at(r), accepted_at(r))
        end
      end
      if not first and #ids == 16 then first = (read('>I6', ids[16])) end
      ready[#ready + 1] = accounts[k]
      ready[#ready + 1] = call('LLEN', key)
      ready[#ready + 1] = first or 0
    end
    local due = call('ZRANGE', P .. 'y:' .. lane, 0, 0, 'WITHSCORES')
    reply[#reply + 1] = {lane, call('ZCARD', P .. 'y:' .. lane), tonumber(due[2] or 0), ready}
  end
  return reply
end
