-- reclaim: makes unknown what a dead owner had leased; each message is held, resent or left, as message and carrier
-- say.
--
-- ARGV   settings, dead owner, 1 when the caller is its own successor (else its last heartbeat must be 10 s old)
-- reply  {unknown, queued, canceled, alive (0/1), more (0/1)}
-- Idempotent: only what is SENDING under a lease of that owner moves; the lease is deleted in the same call.

local TAKES = 20 -- leases per call

-- Mark as unknown all that was handed out: it may have been written.
local function mark_lost(r)
  list_lost(r)
  local p = r.parts_len > 0 and parts_of(r) or fresh_parts(max(r.segments, 1))
  for k = 1, #p, 3 do
    if p[k] == Part.PENDING then
      p[k] = Part.UNKNOWN
      if copied(r, (k - 1) / 3) then add_copy(r, (k - 1) / 3, Part.UNKNOWN, 0, carrier_of(r), '') end
    end
  end
  r.parts = p
end

local function reclaim(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NUMBER})
  local dead, key = args[2], P .. 'x:' .. args[2]
  local beat_at = tonumber(call('HGET', P .. 'b', dead) or 0)
  if args[3] ~= '1' and now - beat_at < Size.DEAD_AFTER then
    -- The clock was set back. Count from now on, or a dead owner would seem alive until the clock gets there again.
    if beat_at > now then call('HSET', P .. 'b', dead, now) end
    return {0, 0, 0, 1, 0}
  end
  local all, leases, done = call('HGETALL', key), {}, {}
  local left, queued, canceled = 0, 0, 0
  for i = 1, #all, 2 do
    if not is_open_count(all[i]) then leases[#leases + 1] = {tonumber(all[i]), all[i + 1]} end
  end
  table.sort(leases, function(a, b) return a[1] < b[1] end)
  for i = 1, min(#leases, TAKES) do
    local lease, packed, ids = leases[i][1], leases[i][2], {}
    local on_unknown, _, pos = read('>BBc0', packed)
    for from = pos, #packed, 16 do ids[#ids + 1] = sub(packed, from, from + 15) end
    load(ids)
    for k = 1, #ids do
      local r = records[ids[k]]
      if r and r.state == State.SENDING and r.lease == lease then
        local carrier = carrier_of(r)
        mark_lost(r)
        if not completed(r, 0) then
          unknown(r, carrier, Reason.NO_ANSWER, 0, on_unknown)
          if r.state == State.UNKNOWN then
            left = left + 1
          elseif r.state == State.QUEUED then
            queued = queued + 1
          else
            canceled = canceled + 1
          end
        end
      end
    end
    done[#done + 1] = lease
    done[#done + 1] = 'n' .. lease
  end
  commit()
  if #done > 0 then spread('HDEL', key, done) end
  local more = #leases > TAKES and 1 or 0
  if more == 0 then call('HDEL', P .. 'b', dead) end
  return {left, queued, canceled, 0, more}
end
