-- Requests with an Idempotency-Key (claim, settle).

-- Hash of the body, base, length of the runner's name, runner ('' = nobody), sealed answer ('' = none yet).
local function claim_value(body, base, runner, answer)
  return body .. base .. char(#runner) .. runner .. answer
end
