-- cancel: ends messages that wait; marks those at a carrier, so that they are not sent again. Committed before the
-- reply.
--
-- ARGV   settings, then ids
-- reply  one number per id (Cancel)
-- Idempotent: canceled stays canceled, marked stays marked.

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
