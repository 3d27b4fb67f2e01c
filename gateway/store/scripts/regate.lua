-- regate: tells whether the remaining parts of messages that are being written may be sent. Every window of parts is a
-- transmission of its own, so the gate is asked again; nothing is reserved and nothing moves.
--
-- ARGV   settings, owner, then per message id .. lease (24 octets)
-- reply  per message: 0 = go on; 255 = the lease is over; else the Reason to stop. Then it is marked: once its written
--        parts are answered it ends as failed with that reason (CANCELED: as any cancel).
-- Idempotent: a mark stays.

local LEASE_OVER = 255

local function regate_one(r, lease)
  if not r or r.state ~= State.SENDING or r.lease ~= lease then return LEASE_OVER end
  if r.cancel == 0 then
    local good, state, reason = gate(r, true)
    if good then return 0 end
    r.cancel = Size.STOPPED + (state == State.EXPIRED and Reason.EXPIRED or reason)
    touch(r)
  end
  return r.cancel >= Size.STOPPED and r.cancel - Size.STOPPED or Reason.CANCELED
end

local function regate(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE, NAME}, {24})
  local ids, asked, reply = {}, {}, {}
  for i = 3, #args do ids[#ids + 1] = sub(args[i], 1, 16) end
  load(ids)
  for i = 1, #ids do
    if records[ids[i]] then asked[#asked + 1] = records[ids[i]] end
  end
  load_flags()
  load_rules(asked)
  for i = 3, #args do reply[i - 2] = regate_one(records[ids[i - 2]], read('>I8', args[i], 17)) end
  commit()
  return reply
end
