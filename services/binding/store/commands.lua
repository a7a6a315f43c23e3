-- One function per command. Keys and args as in apply.lua, further ones from 18 on.
-- Invariant: a request id has one effect: its claim, the state and the outbox entry are one write.

-- args: 18 body hash, 19 deadline of the lease, 20 consent of A, 21 of B, 22 pool, 23 direction, 24 '1'
-- if the lease is sticky. Key 12: the request, 13: marks of the tenant's consents, 14: of its blacklists.
writes('create', function(keys, args)
  local known = redis.call('GET', keys[12])
  if known then return {'KNOWN', known} end
  if tonumber(args[19]) <= now_ms() then return {'LEASE_STALE'} end
  local refusal = barred(keys[13], keys[14], args[9], args[10], args[20], args[21], args[22],
    args[23]) or refused(keys, args, args[24] == '1')
  if refusal then return refusal end
  local sequence = whole(cell_append(keys, args[14]))
  apply(keys, args, sequence)
  -- Lives as long as the binding's record, which is at least 24 h: `forget` drops it.
  redis.call('SET', keys[12], args[18] .. args[3])
  return {'OK', sequence}
end)

-- args: 18 version it was made from, 19 body hash. Key 12: the request; without one, neither. With a
-- B that is new, further args and keys as `create`.
writes('change', function(keys, args)
  local known = keys[12] and redis.call('GET', keys[12])
  if known then return {'KNOWN', known} end
  local now = redis.call('HMGET', keys[3], 'v', 's', 'e')
  if now[1] ~= args[18] or now[2] ~= 'A' or tonumber(now[3]) <= now_ms() then return {'STALE'} end
  local refusal = keys[13] and barred(keys[13], keys[14], args[9], args[10], args[20], args[21],
    args[22], args[23])
  if refusal then return refusal end
  local sequence = whole(cell_append(keys, args[14]))
  apply(keys, args, sequence)
  if keys[12] then redis.call('SET', keys[12], args[19] .. args[3], 'PX', REQUEST_LIFE_MS) end
  return {'OK', sequence}
end)

-- args: 18 version it was made from, 19 '1': only once it has expired by the store's clock.
local function release(keys, args)
  local now = redis.call('HMGET', keys[3], 'v', 's', 'e')
  if now[1] ~= args[18] or now[2] ~= 'A' then return {'STALE'} end
  if args[19] == '1' and tonumber(now[3]) > now_ms() then return {'EARLY'} end
  local sequence = whole(cell_append(keys, args[14]))
  apply(keys, args, sequence)
  return {'OK', sequence}
end
writes('release', release)

-- args: 18 version it was made from, then per request body hash and remaining life ('0': the
-- binding's); keys from 12: the requests.
local function restore(keys, args, sequence)
  apply(keys, args, sequence)
  for place = 12, #keys do
    local at = 2 * place - 5
    if args[at + 1] == '0' then
      redis.call('SET', keys[place], args[at] .. args[3])
    else
      redis.call('SET', keys[place], args[at] .. args[3], 'PX', args[at + 1])
    end
  end
end

-- Heal and repair: newer wins, whatever the number's limits say: it has happened. With an entry,
-- which is published, the version must be the one after 18; without, the state is Kafka's.
export('restore', function(keys, args)
  local publish = args[14] ~= ''
  local refusal = (publish and cell_check or cell_check_read)(keys, args)
  if refusal then return refusal end
  local version = redis.call('HGET', keys[3], 'v') or '0'
  if publish and version ~= args[18] then return {'STALE'} end
  if tonumber(args[4]) <= tonumber(version) then return {'OK', '0'} end
  local sequence = publish and whole(cell_append(keys, args[14])) or '0'
  restore(keys, args, sequence)
  return {'OK', sequence}
end)

-- Publishes what the store has once more. args: 3 version, 4 outbox entry. Key 3: binding or key.
writes('republish', function(keys, args)
  if (redis.call('HGET', keys[3], 'v') or '0') ~= args[3] then return {'STALE'} end
  return {'OK', whole(cell_append(keys, args[4]))}
end)

-- on: keys of a number, in the places of X's; the binding is in its index no more.
local function forget_number(on, args, now, state)
  if state == 'A' then redis.call('HINCRBY', on[4], 'pairs', -1) end
  for _, tag in ipairs({args[6], args[7], extension_mark(args[8])}) do
    local mark = tag ~= '' and redis.call('HGET', on[5], tag)
    if mark and (mark == 'L' .. args[3] or (tonumber(mark) and tonumber(mark) <= now)) then
      redis.call('HDEL', on[5], tag)
    end
  end
  local number = redis.call('HMGET', on[4], 'pairs', 'cool')
  if tonumber(number[1] or '0') <= 0 and tonumber(number[2] or '0') <= now
    and redis.call('EXISTS', on[6]) == 0 then
    -- Its highest epoch goes too: a lease lives 10 minutes at most, this is 24 h later.
    redis.call('DEL', on[4])
  end
end

-- Drops an ended binding: its record, indexes and request ids, and marks that no longer cool.
-- With an entry (the tombstones) only when its time has come; without, a tombstone was read.
-- args: 3 id, 4 version, 5 outbox entry, 6 tag of A, 7 tag of B, 8 mode, 9 'purge': at any time, and
-- though it never ended. Keys as above.
local function forget(keys, args)
  local publish = args[5] ~= ''
  local refusal = (publish and cell_check or cell_check_read)(keys, args)
  if refusal then return refusal end
  local state = redis.call('HMGET', keys[3], 'v', 's')
  if state[1] ~= args[4] then return {'STALE'} end
  local now = now_ms()
  if publish and args[9] ~= 'purge' then
    local at = redis.call('ZSCORE', keys[11], args[3])
    if not at or tonumber(at) > now then return {'EARLY'} end
  end
  local sequence = publish and whole(cell_append(keys, args[5])) or '0'
  redis.call('DEL', keys[3])
  for place = 6, 11 do
    redis.call('ZREM', keys[place], args[3])
  end
  for place = 12, #keys do
    -- An id that expired may have been used again, for another binding.
    if string.sub(redis.call('GET', keys[place]) or '', 17) == args[3] then
      redis.call('DEL', keys[place])
    end
  end
  forget_number(keys, args, now, state[2])
  local y = second(keys, args[8])
  if y then
    redis.call('ZREM', y[6], args[3])
    forget_number(y, args, now, state[2])
  end
  if args[8] == 'AX:' then redis.call('ZREM', held_by(keys), args[3]) end
  return {'OK', sequence}
end
export('forget', forget)
