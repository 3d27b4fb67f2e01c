-- cancel: committed before anyone is answered. What waits ends; what is at a carrier is marked and not sent again.
--
-- ARGV  settings, then ids
-- reply one number per id (Cancel). Idempotent: canceled stays canceled, marked stays marked.

local function cancel_one(r)
  if not r then return Cancel.MISSING end
  if r.state == State.CANCELED then return Cancel.CANCELED end
  if r.final == 1 then return Cancel.FINAL end
  if r.state <= State.QUEUED then
    leave(r)
    move(r, State.CANCELED, Reason.CANCELED)
    return Cancel.CANCELED
  end
  if r.cancel == 0 then
    r.cancel = 1
    touch(r)
  end
  return Cancel.REQUESTED
end

local function cancel(keys, args)
  begin(keys, args[1])
  expect(args, {Size.SETTINGS_SIZE}, {16})
  local ids, reply = {}, {}
  for i = 2, #args do ids[i - 1] = args[i] end
  load(ids)
  for i = 1, #ids do reply[i] = cancel_one(records[ids[i]]) end
  commit()
  return reply
end
