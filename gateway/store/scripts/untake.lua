-- untake: puts leased messages that were not written back at the head of their lanes; the account gets its turn back,
-- no attempt is counted.
--
-- ARGV   settings, owner, then per message id .. lease (24 octets)
-- reply  how many were put back
-- Idempotent: only what is SENDING under that lease moves.

local function untake(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME}, {24})
  local ids = {}
  for i = 3, #args do ids[#ids + 1] = sub(args[i], 1, 16) end
  load(ids)
  local back = 0
  for i = 3, #args do
    local r, lease = records[ids[i - 2]], read('>I8', args[i], 17)
    if r and r.state == State.SENDING and r.lease == lease then
      closed[lease] = (closed[lease] or 0) + 1
      back = back + 1
      return_to_lane(r)
    end
  end
  commit()
  write_closed(args[2])
  return back
end
