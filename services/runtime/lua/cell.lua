-- What every library of functions begins with: the cell's epoch, outbox, lease and healing.
-- KEYS[1] = meta, KEYS[2] = outbox; ARGV[1] = store epoch, ARGV[2] = longest outbox; see
-- docs/design/cells.md. Invariant: a function validates everything before its first write, since
-- a script is not rolled back; then state and outbox entry are written together.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Sequences and times are beyond what Lua prints as whole numbers.
local function whole(number)
  return string.format('%.0f', number)
end

local function cell_check_read(keys, args)
  if redis.call('HGET', keys[1], 'store_epoch') ~= args[1] then
    return {'STORE_HEALING'}
  end
end

local function cell_check(keys, args)
  local refusal = cell_check_read(keys, args)
  if refusal then
    return refusal
  end
  if redis.call('XLEN', keys[2]) >= tonumber(args[2]) then
    return {'OUTBOX_FULL'}
  end
end

local function cell_append(keys, entry)
  local sequence = redis.call('HINCRBY', keys[1], 'seq', 1)
  redis.call('XADD', keys[2], whole(sequence) .. '-0', 'e', entry)
  return sequence
end

-- The sequence of a record if Kafka has yet to acknowledge it, else 0: one of an older store epoch
-- can only be judged here.
local function pending(keys, sequence)
  local acked = redis.call('HGET', keys[1], 'acked') or '0'
  return tonumber(sequence or '0') > tonumber(acked) and sequence or '0'
end

local function export(name, callback)
  redis.register_function(SERVICE .. '_' .. name, callback)
end

-- Registers a function that reads: it answers only while the store is whole.
local function reads(name, callback)
  export(name, function(keys, args)
    return cell_check_read(keys, args) or callback(keys, args)
  end)
end

-- Registers a function that writes: it also refuses while the outbox is full.
local function writes(name, callback)
  export(name, function(keys, args)
    return cell_check(keys, args) or callback(keys, args)
  end)
end

-- Takes or keeps the lease. args: owner, life in ms, '1' to begin a new term even where the owner's
-- own lease runs. Answers LOST where there is no cell (any more), OTHER where another owner's lease
-- runs, else OWNER (kept) or TAKEN (new term), with epoch, acked sequence, state, and the highest
-- sequence.
export('acquire', function(keys, args)
  local meta = redis.call('HMGET', keys[1], 'epoch', 'owner', 'lease_until', 'acked', 'state', 'seq')
  if not meta[1] then
    return {'LOST'}
  end
  local now = now_ms()
  local runs = tonumber(meta[3] or '0') > now
  if runs and meta[2] ~= args[1] then
    return {'OTHER', meta[1], meta[4], meta[5], meta[6]}
  end
  redis.call('HSET', keys[1], 'owner', args[1], 'lease_until', whole(now + tonumber(args[2])))
  if runs and args[3] ~= '1' then
    return {'OWNER', meta[1], meta[4], meta[5], meta[6]}
  end
  local epoch = redis.call('HINCRBY', keys[1], 'epoch', 1)
  return {'TAKEN', whole(epoch), meta[4], meta[5], meta[6]}
end)

-- Gives the lease up. args: owner.
export('resign', function(keys, args)
  if redis.call('HGET', keys[1], 'owner') == args[1] then
    redis.call('HSET', keys[1], 'lease_until', '0')
  end
  return {'OK'}
end)

-- Kafka has acknowledged everything up to a sequence. args: owner, epoch, sequence.
export('ack', function(keys, args)
  local meta = redis.call('HMGET', keys[1], 'owner', 'epoch')
  if not meta[1] then
    return {'LOST'}
  end
  if meta[1] ~= args[1] or meta[2] ~= args[2] then
    return {'DEPOSED'}
  end
  redis.call('HSET', keys[1], 'acked', args[3])
  redis.call('XTRIM', keys[2], 'MINID', whole(tonumber(args[3]) + 1) .. '-0')
  redis.call('PUBLISH', keys[1], args[3])
  return {'OK'}
end)

-- Starts a heal under a secret store epoch, so that only the healer can write, and notes which
-- server it is for, so that new connections to that one leave the heal alone. args: owner, life of
-- the lease in ms, the secret, '1' to take the cell from another owner.
export('heal_begin', function(keys, args)
  local now = now_ms()
  local meta = redis.call('HMGET', keys[1], 'owner', 'lease_until')
  if args[4] ~= '1' and meta[1] and meta[1] ~= args[1] and tonumber(meta[2] or '0') > now then
    return {'OTHER'}
  end
  redis.call('HSET', keys[1], 'state', 'healing', 'store_epoch', args[3], 'owner', args[1],
    'lease_until', whole(now + tonumber(args[2])),
    'run_id', string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'))
  redis.call('HSETNX', keys[1], 'epoch', '0')
  redis.call('HSETNX', keys[1], 'acked', '0')
  redis.call('HSETNX', keys[1], 'seq', '0')
  return {'OK', redis.call('HGET', keys[1], 'epoch')}
end)

-- Kafka was read to its end: the new term begins. args: owner, secret, epoch, first sequence.
-- Entries still in the outbox keep their place before it.
export('heal_epoch', function(keys, args)
  local meta = redis.call('HMGET', keys[1], 'owner', 'store_epoch')
  if meta[1] ~= args[1] or meta[2] ~= args[2] then
    return {'DEPOSED'}
  end
  redis.call('HSET', keys[1], 'epoch', args[3], 'seq', args[4])
  if redis.call('XLEN', keys[2]) == 0 then
    redis.call('HSET', keys[1], 'acked', args[4])
  end
  return {'OK'}
end)

-- The store is whole again. args: owner, secret, epoch, run id of the server.
export('heal_done', function(keys, args)
  local meta = redis.call('HMGET', keys[1], 'owner', 'store_epoch')
  if meta[1] ~= args[1] or meta[2] ~= args[2] then
    return {'DEPOSED'}
  end
  redis.call('HSET', keys[1], 'state', 'ready', 'store_epoch', args[3], 'run_id', args[4])
  return {'OK'}
end)
