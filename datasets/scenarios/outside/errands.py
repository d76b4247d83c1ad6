"""What people come for who come seldom: the commands of one session each."""
SQL = "PGPASSWORD=shop psql -P pager=off -h 127.0.0.1 -U shop"
ERRANDS = {
    "dba": [f"{SQL} -c 'vacuum analyze purchase' shop", f"{SQL} -c 'reindex table purchase' shop",
            f"{SQL} -c \"select relname, pg_size_pretty(pg_total_relation_size(oid)) from pg_class order by pg_total_relation_size(oid) desc limit 8\" shop",
            "PGPASSWORD=shop pg_dump -h 127.0.0.1 -U shop -t product shop > /tmp/product.sql", "gzip -f /tmp/product.sql; ls -l /tmp/product.sql.gz",
            f"{SQL} -c 'explain analyze select product, sum(amount) from purchase group by 1 order by 2 desc limit 5' shop",
            f"{SQL} -c 'select * from pg_stat_user_tables' shop", "rm /tmp/product.sql.gz"],
    "debug-logs": [f"{SQL} -c \"alter system set log_statement = 'all'\" shop", f"{SQL} -c 'select pg_reload_conf()' shop",
                   "redis-cli config set loglevel debug", "sleep 4", "tail -n 5 /var/log/postgresql@15-main.service.log", "grep -c statement /var/log/postgresql@15-main.service.log",
                   f"{SQL} -c 'alter system reset log_statement' shop", f"{SQL} -c 'select pg_reload_conf()' shop", "redis-cli config set loglevel notice"],
    "look": ["ss -tlnp", "lsof -nP -i 2> /dev/null | head -20", "ls -l /proc/[0-9]*/exe 2> /dev/null | head -40", "find /var/log /srv -size +50k 2> /dev/null | head",
             "vmstat 1 2", "last | head -5", "dpkg -l | tail -5", "ip -s address", "grep -n proxy_pass /etc/nginx/nginx.conf", "mount | head -5; env | sort | head"],
    "hot-fix": ["cd /srv/www && ls -l", "cp page.html /tmp/page.before", "vi -c ':%s/<h1>Product/<h1>Our product/' -c wq page.html", "diff /tmp/page.before page.html",
                "curl -s 'http://127.0.0.1/?p=1' | head -c 300", "rm /tmp/page.before"],
}
