export('put', function(keys, args)
  local refusal = cell_check(keys, args)
  if refusal then return refusal end
  local version = tonumber(redis.call('HGET', keys[3], 'version') or '0')
  if tonumber(args[4]) ~= version + 1 then return {'OK', '0'} end
  redis.call('HSET', keys[3], 'value', args[3], 'version', args[4])
  return {'OK', whole(cell_append(keys, args[5]))}
end)

export('get', function(keys, args)
  local refusal = cell_check_read(keys, args)
  if refusal then return refusal end
  local got = redis.call('HMGET', keys[3], 'value', 'version')
  return {'OK', got[1] or '', got[2] or '0'}
end)

export('restore', function(keys, args)
  local refusal = cell_check_read(keys, args)
  if refusal then return refusal end
  if tonumber(args[4]) > tonumber(redis.call('HGET', keys[3], 'version') or '0') then
    redis.call('HSET', keys[3], 'value', args[3], 'version', args[4])
  end
  return {'OK'}
end)

export('republish', function(keys, args)
  local refusal = cell_check(keys, args)
  if refusal then return refusal end
  if redis.call('HGET', keys[3], 'version') ~= args[3] then return {'OK'} end
  redis.call('HSET', keys[3], 'version', args[4])
  cell_append(keys, args[5])
  return {'OK'}
end)
