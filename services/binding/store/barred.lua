-- What keeps parties from being bound, whatever the number: a consent that is missing (R4, R5), a
-- blacklist. Invariant: judged inside the function that creates, so that from the answer to a
-- withdrawal, or to an entry, on nothing new rests on it.
-- Marks of a tenant, hash `consents`: tag -> `<generation>:<L, D or W>:<expiry>:<consent>`, 'policy' ->
-- `<version>:<parties>` and a line `<pool>=<parties>` for each pool with a rule of its own; hash
-- `blacklist`: 's' tag [pool] or 'p' caller callee [pool] -> `<rank>:<expiry>:<entry>`.

-- The refusal, or nil and the consents of A and B that are in force ('': none).
local function consented(marks, tag_a, tag_b, pool, now)
  local got = redis.call('HMGET', marks, tag_a, tag_b, 'policy')
  local needed = ''
  if got[3] then
    local _, stop = string.find(got[3], '\n' .. pool .. '=', 1, true)
    needed = stop and string.match(got[3], '^%u*', stop + 1) or string.match(got[3], ':(%u*)')
  end
  local found = {'', ''}
  for side, party in ipairs({'A', 'B'}) do
    if got[side] then
      local letter, expiry, id = string.match(got[side], '^%d+:(%u):(%d+):(.+)$')
      -- Whoever has withdrawn is not bound even where nobody asks for consents.
      if letter ~= 'L' then return {'CONSENT_MISSING', party} end
      if tonumber(expiry) > now then found[side] = id end
    end
    local there = side == 1 or tag_b ~= ''
    if there and found[side] == '' and string.find(needed, party, 1, true) then
      return {'CONSENT_MISSING', party}
    end
  end
  return nil, found[1], found[2]
end

-- The refusal, or nil. direction: 1 both, 2 A to B, 3 B to A. A tenant without entries has no hash.
local function blacklisted(marks, tag_a, tag_b, pool, direction, now)
  if redis.call('EXISTS', marks) == 0 then return end
  local fields, targets = {'s' .. tag_a}, {'A'}
  if tag_b ~= '' then
    fields[2], targets[2] = 's' .. tag_b, 'B'
  end
  if tag_b ~= '' and direction ~= '3' then
    fields[#fields + 1], targets[#targets + 1] = 'p' .. tag_a .. tag_b, 'A_TO_B'
  end
  if tag_b ~= '' and direction ~= '2' then
    fields[#fields + 1], targets[#targets + 1] = 'p' .. tag_b .. tag_a, 'B_TO_A'
  end
  local count = #fields
  for place = 1, count do
    fields[count + place] = fields[place] .. pool
  end
  for place, mark in ipairs(redis.call('HMGET', marks, unpack(fields))) do
    if mark and tonumber(string.match(mark, ':(%d+):')) > now then
      local scope = place > count and 'pool' or 'tenant'
      return {'PARTY_BLACKLISTED', scope, targets[(place - 1) % count + 1]}
    end
  end
end

-- The refusal of a create, or nil. `named`: the consents that its binding names.
local function barred(consents, blacklist, tag_a, tag_b, named_a, named_b, pool, direction)
  local now = now_ms()
  local refusal, a, b = consented(consents, tag_a, tag_b, pool, now)
  if refusal then return refusal end
  if a ~= named_a or b ~= named_b then return {'CHANGED'} end
  return blacklisted(blacklist, tag_a, tag_b, pool, direction, now)
end

-- Key 3: consents. args: 3 tag of A, 4 of B, 5 pool. Answers both consents, and '1' if the tenant has
-- any or a policy.
reads('consented', function(keys, args)
  local refusal, a, b = consented(keys[3], args[3], args[4], args[5], now_ms())
  return refusal or {'OK', a, b, whole(redis.call('EXISTS', keys[3]))}
end)
