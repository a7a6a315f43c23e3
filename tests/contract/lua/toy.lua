writes('put', function(keys, args)
  local version = tonumber(redis.call('HGET', keys[3], 'version') or '0')
  if tonumber(args[4]) ~= version + 1 then return {'OK', '0'} end
  redis.call('HSET', keys[3], 'value', args[3], 'version', args[4])
  return {'OK', whole(cell_append(keys, args[5]))}
end)

reads('get', function(keys, args)
  local got = redis.call('HMGET', keys[3], 'value', 'version')
  return {'OK', got[1] or '', got[2] or '0'}
end)

reads('restore', function(keys, args)
  if tonumber(args[4]) > tonumber(redis.call('HGET', keys[3], 'version') or '0') then
    redis.call('HSET', keys[3], 'value', args[3], 'version', args[4])
  end
  return {'OK'}
end)

writes('republish', function(keys, args)
  if redis.call('HGET', keys[3], 'version') ~= args[3] then return {'OK'} end
  redis.call('HSET', keys[3], 'version', args[4])
  cell_append(keys, args[5])
  return {'OK'}
end)
