-- Requests with an Idempotency-Key (claim, settle).

-- Return a claim's value: hash of the body, base, length of the runner's name, runner ('' = none), sealed answer ('' =
-- none yet).
local function claim_value(body, base, runner, answer)
  return body .. base .. char(#runner) .. runner .. answer
end
