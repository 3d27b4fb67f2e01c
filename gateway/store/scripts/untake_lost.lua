-- untake_lost: leases of a living owner that it does not know of (the answer of a take was lost) go back, never written.
--
-- ARGV  settings, owner, carrier, then the leases of this partition that the owner does know, for that carrier
-- reply how many messages went back. Idempotent: only what is SENDING under such a lease moves; the lease goes with it.
-- To be called only while no take of this owner for this carrier is under way.

local function untake_lost(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME, NAME}, {NUMBER})
  local key, carrier, known = P .. 'x:' .. args[2], args[3], {}
  for i = 4, #args do known[args[i]] = true end
  local all, back, done = call('HGETALL', key), 0, {}
  for i = 1, #all, 2 do
    local name = all[i]
    if byte(name) ~= 110 and not known[name] then -- not n<lease>
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
