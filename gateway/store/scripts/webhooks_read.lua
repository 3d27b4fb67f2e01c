-- webhooks_read: take or renew the lease on this partition's events, and read what happened since the last move.
--
-- ARGV  owner, '0' releases the lease, most entries, about how many octets of events, '1' to skip entries without finals
-- reply {held (0: another worker has the lease or nothing is followed, 1: still the owner's, 2: the owner's from now on),
--        version, last entry moved, 1 when there is more, last entry read, then per entry: events, instant, summaries of
--        their messages (false: written by a version that had none)}
-- An entry has no summaries ('') when none of its events is final or wanted by an account that wants all.
-- Idempotent: reading only renews the lease. A later incarnation of the same node takes it over at once.

local function same_node(one, other)
  return string.match(one, '^(.*)/') == string.match(other, '^(.*)/')
end

local function webhooks_read(keys, args)
  begin(keys)
  expect(args, args[2] == '0' and {NAME, NUMBER} or {NAME, NUMBER, NUMBER, NUMBER, NUMBER})
  local owner, key = args[1], P .. 'gl'
  local holder, held = call('GET', key), 1
  if args[2] == '0' then
    if holder == owner then call('DEL', key) end
    return {0}
  end
  local cursor = call('HGET', P .. 'g', 'webhooks')
  if not cursor then return {0} end
  if holder ~= owner then
    if holder and not same_node(holder, owner) then
      if call('PTTL', key) > Size.DEAD_AFTER then call('PEXPIRE', key, Size.DEAD_AFTER) end -- the clock was set back
      return {0}
    end
    call('SET', key, owner, 'PX', Size.DEAD_AFTER)
    held = 2
  else
    local left = call('PTTL', key)
    if left < Size.DEAD_AFTER / 2 or left > Size.DEAD_AFTER then call('PEXPIRE', key, Size.DEAD_AFTER) end
  end
  local reply, left = {held, tonumber(call('GET', P .. 'gv') or 0), cursor, 0, cursor}, tonumber(args[4])
  local entries = call('XRANGE', P .. 'e', '(' .. cursor, '+', 'COUNT', args[3])
  if #entries == tonumber(args[3]) then reply[4] = 1 end
  for i = 1, #entries do
    if left <= 0 then
      reply[4] = 1
      break
    end
    -- the fields as `commit` writes them: d, events, t, instant, v, summaries
    local fields = entries[i][2]
    local packed, summaries = fields[2], fields[5] == 'v' and fields[6]
    reply[5] = entries[i][1]
    if summaries ~= '' or args[5] ~= '1' then
      left = left - #packed
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = packed, tonumber(fields[4]), summaries
    end
  end
  if #reply == 5 and reply[5] ~= cursor then
    reply[3] = reply[5]
    call('HSET', P .. 'g', 'webhooks', reply[5])
  end
  return reply
end
