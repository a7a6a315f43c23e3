-- Pools: created once, read, counted. Invariant: what is created stays as it is; a repeat answers what
-- stands, with the sequence of its creation while Kafka has yet to acknowledge it.

-- args: path, policy, cooling, pair cooling ('0': none), Pool, partition of its event, of its record.
-- → sequence to wait for, Pool as it stands
writes('create_pool', function(keys, args)
  local c = begin(keys)
  local path, record = args[3], args[7]
  local key = c.base .. 'pool:' .. path
  local stands = redis.call('HMGET', key, 'record', 'sq')
  if stands[1] then
    return {'OK', pending(keys, stands[2]), stands[1]}
  end
  local version = draw(c)
  tell(c, tonumber(args[8]), path, 'PoolCreated', wire_bytes(1, record), version)
  keep(c, tonumber(args[9]), 'pool/' .. path .. pool_suffix(c), wire_bytes(3, record), version)
  local sequence = commit(c)
  redis.call('HSET', key, 'policy', args[4], 'cooling', args[5], 'pair', args[6], 'record', record,
    'version', whole(version), 'gen', whole(version), 'sq', sequence)
  redis.call('ZADD', c.base .. 'pools', 0, path)
  return {'OK', sequence, record}
end)

-- args: path. → Pool, `gen`, and the active blocks, each as block, cursor, area
reads('get_pool', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local all, active = redis.call('HGETALL', pool.blocks), {}
  for at = 1, #all, 2 do
    local f = redis.call('HMGET', c.base .. 'block:' .. all[at], 'state', 'area')
    if f[1] == '1' then
      local place = #active
      active[place + 1], active[place + 2], active[place + 3] = all[at], all[at + 1], f[2]
    end
  end
  return {'OK', redis.call('HGET', pool.key, 'record'), pool.gen or '0', active}
end)

-- How much of a pool was in use over the last hour: a list of `<time>:<use>`, newest first. Lost with the
-- store, it begins anew: it only says how fast the pool fills.
local MINUTE_MS = 60000
local OBSERVED = 61 -- one a minute

local function observe(c, key, used)
  local newest = redis.call('LINDEX', key, 0)
  if not newest or c.now - tonumber(string.match(newest, '^%d+')) >= MINUTE_MS then
    redis.call('LPUSH', key, whole(c.now) .. ':' .. used)
    redis.call('LTRIM', key, 0, OBSERVED - 1)
  end
end

-- Time and use of the oldest note of the last hour; now where there is none, for nobody may have noted.
local function observed(c, key, used)
  local time, was = c.now, used
  for _, note in ipairs(redis.call('LRANGE', key, 0, -1)) do
    local at, in_use = string.match(note, '^(%d+):(%d+)$')
    if c.now - tonumber(at) <= OBSERVED * MINUTE_MS then
      time, was = tonumber(at), in_use
    end
  end
  return c.now - time, was
end

-- args: path, '1' to note how much is in use. → total, leased, bound, cooling, locked, reserved,
-- suspended, retired, pairs; what is not used, what is, what was when it was noted, and how many ms ago
-- that is; numbers by pairs per number, from class 2 on. One step per block in use, none per number.
reads('statistics', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local cooling = 0
  if not pool.shared then
    for _, block in ipairs(redis.call('ZRANGE', heads_key(c, 'rest', pool, ''), 0, -1)) do
      cooling = cooling
        + redis.call('ZCOUNT', c.base .. 'rest:' .. block, '(' .. whole(c.now), '+inf')
    end
  end
  local fields = {'total', 'leased', 'bound', 'locked', 'reserved', 'suspended', 'retired', 'pairs'}
  for class = 2, #SPREAD + 1 do
    fields[#fields + 1] = 'spread' .. class
  end
  local f = redis.call('HMGET', pool.key, unpack(fields))
  for at = 1, #fields do
    f[at] = f[at] or '0'
  end
  local key, used = c.base .. 'use:' .. pool.path, whole(f[2] + f[3] + cooling)
  local usable = f[1] - f[4] - f[5] - f[6] - f[7]
  local left = usable - used
  if pool.shared then
    used, left = f[8], usable * SLOTS - f[8]
  end
  if args[4] == '1' then
    observe(c, key, used)
  end
  local ago, was = observed(c, key, used)
  table.insert(f, 4, cooling)
  for place, value in ipairs({whole(math.max(0, left)), used, was, whole(ago)}) do
    table.insert(f, 9 + place, value)
  end
  return {'OK', unpack(f)}
end)

-- args: number. → pool, state, pairs, end of cooling, version, history
reads('get_number', function(keys, args)
  return with_number(keys, args, function(c, n)
    return {'OK', number_answer(c, n)}
  end)
end)
