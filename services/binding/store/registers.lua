-- Registers: consents, consent policies, entries of blacklists. Each is a record with a version, a
-- mark that creates are judged by (barred.lua), and a moment at which something is due.
-- Keys:  3 register  4 marks  5 due  6 index of the tenant  7 index of the tag  8... requests
-- Args:  3 id  4 version  5 record  6 outbox entry  7 version before  8 field of the mark  9 mark ('':
--        none)  10 mark before ('*': any)  11 due at ('': never)  12 member in due  13 tag
--        14... body hash and time per request, of which a put has one or none
-- A mark begins with its rank. Invariant: of marks for one field the highest rank stands, in whatever
-- order a heal applies them.

local REQUEST_LIFE_MS = 86400000

local function rank(mark)
  return mark and tonumber(string.match(mark, '^%d+')) or -1
end

local function is_of(mark, id)
  return mark and string.sub(mark, -#id) == id
end

local function register(keys, args, sequence)
  redis.call('HSET', keys[3], 'v', args[4], 'r', args[5], 'sq', sequence, 'f', args[8], 't', args[13])
  local standing = redis.call('HGET', keys[4], args[8])
  if args[9] == '' then
    if is_of(standing, args[3]) then redis.call('HDEL', keys[4], args[8]) end
  elseif rank(args[9]) >= rank(standing) then
    redis.call('HSET', keys[4], args[8], args[9])
  end
  if args[11] ~= '' then redis.call('ZADD', keys[5], args[11], args[12]) end
  redis.call('ZADD', keys[6], 0, args[3])
  redis.call('ZADD', keys[7], 0, args[3])
  for place = 8, #keys do
    -- A heal meets requests of long ago: their answers are forgotten when they would have been.
    local left = tonumber(args[2 * place - 1]) + REQUEST_LIFE_MS - now_ms()
    if left > 0 then
      redis.call('SET', keys[place], args[2 * place - 2] .. args[3], 'PX', whole(left))
    end
  end
end

-- Key 8: the request, if one made this version.
writes('put_register', function(keys, args)
  local known = keys[8] and redis.call('GET', keys[8])
  if known then return {'KNOWN', known} end
  if (redis.call('HGET', keys[3], 'v') or '0') ~= args[7] then return {'STALE'} end
  if args[10] ~= '*' and (redis.call('HGET', keys[4], args[8]) or '') ~= args[10] then
    return {'STALE'}
  end
  local sequence = whole(cell_append(keys, args[6]))
  register(keys, args, sequence)
  return {'OK', sequence}
end)

-- Heal: what Kafka has, if it is newer.
reads('restore_register', function(keys, args)
  if tonumber(args[4]) > tonumber(redis.call('HGET', keys[3], 'v') or '0') then
    register(keys, args, '0')
  end
  return {'OK'}
end)

-- Key 3: a register, 4: its marks. Answers version, record, sequence to wait for, the mark that
-- stands, field and tag; or ''.
reads('get_register', function(keys, args)
  local got = redis.call('HMGET', keys[3], 'v', 'r', 'sq', 'f', 't')
  if not got[1] then return {'OK', ''} end
  local mark = redis.call('HGET', keys[4], got[4]) or ''
  return {'OK', got[1], got[2], pending(keys, got[3]), mark, got[4], got[5]}
end)

-- Key 3: marks. args: 3 field. Answers the mark or ''.
reads('mark', function(keys, args)
  return {'OK', redis.call('HGET', keys[3], args[3]) or ''}
end)

-- Keys from 3: bindings. Answers '1' for each that is live.
reads('live', function(keys, args)
  local found = {'OK'}
  for place = 3, #keys do
    found[#found + 1] = redis.call('HGET', keys[place], 's') == 'A' and '1' or '0'
  end
  return found
end)

-- Drops a register: with an entry (the tombstones) only when it is due; without, a tombstone was read.
-- Keys as above. args: 3 id, 4 version, 5 outbox entry, 6 field, 7 member in due.
export('drop_register', function(keys, args)
  local publish = args[5] ~= ''
  local refusal = (publish and cell_check or cell_check_read)(keys, args)
  if refusal then return refusal end
  if redis.call('HGET', keys[3], 'v') ~= args[4] then return {'STALE'} end
  local at = redis.call('ZSCORE', keys[5], args[7])
  if publish and (not at or tonumber(at) > now_ms()) then return {'EARLY'} end
  local sequence = publish and whole(cell_append(keys, args[5])) or '0'
  redis.call('DEL', keys[3])
  if is_of(redis.call('HGET', keys[4], args[6]), args[3]) then
    redis.call('HDEL', keys[4], args[6])
  end
  redis.call('ZREM', keys[5], args[7])
  redis.call('ZREM', keys[6], args[3])
  redis.call('ZREM', keys[7], args[3])
  return {'OK', sequence}
end)
