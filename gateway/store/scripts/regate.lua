-- regate: whether the other parts of messages that are being written may still follow: every window of parts is a
-- transmission of its own. Nothing is reserved again, nothing is moved.
--
-- ARGV  settings, owner, then id .. lease (24 octets) each
-- reply one number per message: 0 = go on; else the reason to stop (Reason), and it is marked: when what was written has
--       its answers it ends as failed with that reason (canceled: as any cancel). A lease that is over: 255.
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
