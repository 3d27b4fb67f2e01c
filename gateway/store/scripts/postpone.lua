-- postpone: puts leased messages that were not written back in their lanes, delayed; no attempt is counted.
--
-- ARGV   settings, owner, then per message id .. lease .. due .. turn (33 octets); turn 1: a take
--        for this carrier at that instant may send it; 0: a turn must be asked for again
-- reply  how many were put back
-- Idempotent: only what is SENDING under that lease moves.

local function postpone(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME}, {33})
  local ids, back = {}, 0
  for i = 3, #args do ids[#ids + 1] = sub(args[i], 1, 16) end
  load(ids)
  for i = 3, #args do
    local r, lease, due, turn = records[ids[i - 2]], read(Format.TURN, args[i], 17)
    if r and r.state == State.SENDING and r.lease == lease then
      closed[lease] = (closed[lease] or 0) + 1
      back = back + 1
      if not ended_meanwhile(r) then
        move(r, State.QUEUED, turn == 1 and Reason.TURN or Reason.PACED, carrier_of(r))
        delay(r, max(due, 1))
      end
    end
  end
  commit()
  write_closed(args[2])
  return back
end
