-- untake_lost: puts messages back that a living owner has leased without knowing it: the reply of a take was lost, so
-- they were never written.
--
-- ARGV   settings, owner, carrier, then the leases of this partition that the owner knows for that carrier
-- reply  how many messages were put back
-- Idempotent: only what is SENDING under such a lease moves; the lease is deleted in the same call. Call it only while
-- no take of this owner for this carrier is under way.

local function untake_lost(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NAME}, {NUMBER})
  local key, carrier, known = P .. 'x:' .. args[2], args[3], {}
  for i = 4, #args do known[args[i]] = true end
  local all, back, done = call('HGETALL', key), 0, {}
  for i = 1, #all, 2 do
    local name = all[i]
    if not is_open_count(name) and not known[name] then
      local lease, ids = tonumber(name), {}
      local _, whose, pos = read('>BBc0', all[i + 1])
      if whose == carrier then
        for from = pos, #all[i + 1], 16 do ids[#ids + 1] = sub(all[i + 1], from, from + 15) end
        load(ids)
        for k = 1, #ids do
          local r = records[ids[k]]
          if r and r.state == State.SENDING and r.lease == lease then
            back = back + 1
            return_to_lane(r)
          end
        end
        done[#done + 1] = name
        done[#done + 1] = 'n' .. name
      end
    end
  end
  commit()
  if #done > 0 then spread('HDEL', key, done) end
  return back
end
