// Included: by the tests of the rules, and by those that look whether a secret is anywhere but on its host.
&[
    (
        "/etc/shadow",
        "root:«password-hash|$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7»:19700:0:99999:7:::\n\
         daemon:*:19700:0:99999:7:::\n\
         old:«password-hash|!$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/»:19000:0:99999:7:::\n\
         sshd:!:19700::::::\n",
    ),
    (
        "/etc/gshadow",
        "root:*::\nadmin:«password-hash|$6$abcdefgh$0123456789abcdefghijklmnop»:alice:bob\n",
    ),
    (
        "/etc/security/opasswd",
        "alice:1001:1:«password-hash|$6$xyzxyzxy$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa»\n",
    ),
    (
        "/etc/ssh/ssh_host_ed25519_key",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n\
         «private-key|b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
         QyNTUxOQAAACDvvZ3vv71mZ3Zmdnh5eXp6enp6enp6enp6enp6enp6egAAAJgAAAAAAAA=»\n\
         -----END OPENSSH PRIVATE KEY-----\n",
    ),
    (
        "/etc/ssl/private/www.pem",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ0l1\n-----END CERTIFICATE-----\n\
         -----BEGIN RSA PRIVATE KEY-----\n\
         «private-key|Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0123456789ABCDEF0123456789ABCDEF\n\n\
         MIIEpAIBAAKCAQEAx3xkqv0sWw0Ux9p9f0mF2yqUeN0kqB1mZ0tqg3N1d2x3Y4Z5\nqqqq»\n\
         -----END RSA PRIVATE KEY-----\n",
    ),
    (
        "/etc/google/service-account.json",
        "{\n  \"type\": \"service_account\",\n  \"private_key\": \"«private-key|-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\\n-----END PRIVATE KEY-----\\n»\",\n  \"client_email\": \"a@b.iam.gserviceaccount.com\"\n}\n",
    ),
    (
        "/etc/openvpn/server.conf",
        "port 1194\n<tls-auth>\n-----BEGIN OpenVPN Static key V1-----\n\
         «private-key|6acef03f62675b4b1bbd03e53b187727\n423cea742242106cb2916a8a4c829756»\n\
         -----END OpenVPN Static key V1-----\n</tls-auth>\n",
    ),
    (
        "/home/a/key.ppk",
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: me\nPublic-Lines: 1\nAAAAC3NzaC1lZDI1NTE5\nPrivate-Lines: 1\n«private-key|AAAAIJ3dJgV2k4yQm9xT0b2S0Q0yY9vZc1bP5y0Zk6Wl5b8R»\nPrivate-MAC: 00\n",
    ),
    (
        "/etc/wireguard/wg0.conf",
        "[Interface]\nPrivateKey = «secret|yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=»\nListenPort = 51820\n\n\
         [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nPresharedKey = «pre-shared-key|FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=»\nAllowedIPs = 10.0.0.2/32\n",
    ),
    (
        "/etc/NetworkManager/system-connections/office.nmconnection",
        "[connection]\nid=office\ntype=wifi\n\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=«pre-shared-key|correct horse battery»\n\n\
         [802-1x]\nidentity=alice\npassword=«password|Wint3r!sComing»\nprivate-key-password=«password|k3ypass»\n",
    ),
    (
        "/etc/wpa_supplicant/wpa_supplicant.conf",
        "network={\n\tssid=\"home\"\n\t#psk=\"«pre-shared-key|plainpass1»\"\n\tpsk=«pre-shared-key|6b1f0f4d2d3c8f0a1b2c3d4e5f60718293a4b5c6d7e8f90112233445566778ff»\n\twep_key0=«pre-shared-key|ABCDEF0123»\n}\n",
    ),
    (
        "/home/a/.pgpass",
        "# hostname:port:database:username:password\ndb.example.net:5432:*:app:«password|pa\\:ss:word»\n",
    ),
    (
        "/etc/mysql/debian.cnf",
        "[client]\nhost     = localhost\nuser     = debian-sys-maint\npassword = «password|Kj82nsLq01PzXw»\nsocket   = /run/mysqld/mysqld.sock\n",
    ),
    (
        "/etc/apt/auth.conf.d/esm",
        "machine esm.ubuntu.com/apps/ubuntu/ login bearer password «password|C1kT9Lq8ZxWvB7nM» # ubuntu-pro\n",
    ),
    ("/home/a/.netrc", "machine ftp.example.net\n  login alice\n  password «password|s3same»\n"),
    (
        "/etc/snmp/snmpd.conf",
        "agentaddress  127.0.0.1,[::1]\nrocommunity «community|s3cr3tRO» 10.0.0.0/8\nrwcommunity \"«community|n0tpublic»\"\nrocommunity public default -V systemonly\n\
         com2sec readonly 10.0.0.0/8 «community|mgmt-ro»\ncreateUser «password|monitor SHA \"authpass99\" AES \"privpass99\"»\ntrapsink 10.1.1.1 «community|trapc0mm»\n",
    ),
    (
        "/etc/nginx/.htpasswd",
        "alice:«password-hash|$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00»\nbob:«password-hash|rqXexS6ZhobKA»\n",
    ),
    (
        "/etc/apache2/sites-enabled/proxy.conf",
        "RequestHeader set Authorization \"Basic «api-token|YWxhZGRpbjpvcGVuc2VzYW1l»\"\nProxyPass \"/\" \"http://svc:«url-credential|pr0xy-Pass»@backend:8080/\"\n",
    ),
    (
        "/etc/nginx/conf.d/api.conf",
        "location / {\n    proxy_set_header Authorization \"Bearer «jwt|ey¦JhbGciOiJIUzI1NiJ9.ey¦JzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U»\";\n    ssl_certificate_key /etc/ssl/private/a.key;\n}\n",
    ),
    (
        "/etc/default/backup",
        "RESTIC_REPOSITORY=s3:s3.amazonaws.com/b\nAWS_ACCESS_KEY_ID=«cloud-key|AK¦IAQYLPMN5HFDW3XZ7A»\nAWS_SECRET_ACCESS_KEY=«cloud-key|wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzzzz»\nexport RESTIC_PASSWORD='«password|long pass phrase»'\n",
    ),
    (
        "/opt/app/.env",
        "GCP_API=«cloud-key|AI¦zaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe»\nGITHUB=«api-token|gh¦p_16C7e42F292c6912E7710c838347Ae178B4a»\nSLACK_URL=https://hooks.slack.com/services/«api-token|T0¦0000000/B00000000/qLm4Zt9Wabcdefp2Rk8Ys6Vn»\n\
         SLACK=«api-token|xo¦xb-123456789012-abcdefABCDEF»\nSTRIPE=«api-token|sk¦_live_4eC39HqLyjWDarjtT1zdp7dc»\nGITLAB=«api-token|gl¦pat-aBcDeFgHiJkLmNoPqRsT»\nNPM=«api-token|np¦m_abcdefghijklmnopqrstuvwxyz0123456789»\n\
         SENDGRID=«api-token|SG¦.abcdefghijklmnopqrstuv.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq»\nVAULT=«api-token|hv¦s.CAESIJlU02LQZq9uYXyZabcdefgh»\nDATABASE_URL=postgres://app:«url-credential|d8-Pg.pass»@db:5432/app\n\
         AZURE=DefaultEndpointsProtocol=https;AccountName=a;AccountKey=«cloud-key|Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;EndpointSuffix=core.windows.net»\n",
    ),
    (
        "/etc/kubernetes/admin.conf",
        "users:\n- name: admin\n  user:\n    client-certificate-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUM=\n    client-key-data: «private-key|LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo=»\n    token: «api-token|abcdef.0123456789abcdef»\n",
    ),
    (
        "/etc/app/deployment.yaml",
        "env:\n  - name: DB_PASSWORD\n    value: «password|kub3-pass»\n  - name: MODE\n    value: fast\n",
    ),
    (
        "/home/a/.docker/config.json",
        "{\"auths\": {\"r.example.net\": {\"auth\": \"«password|YWxpY2U6c2VjcmV0LXBhc3M=»\"}}}\n",
    ),
    ("/home/a/.git-credentials", "https://alice:«url-credential|gl-token-9981»@git.example.net\n"),
    (
        "/etc/ansible/group_vars/all.yml",
        "user: app\ndb_secret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  «vault|62313365396662343061393464336163383764373764613633653634306231386433626436623361\n  6134333665353966363534333632666535333761666131620a663537646436643839616531643561»\nport: 1\n",
    ),
    ("/etc/postfix/sasl_passwd", "[smtp.example.net]:587 relay:«password|m4il:Pass»\n"),
    (
        "/etc/ppp/chap-secrets",
        "# client server secret addresses\nalice * \"«password|dsl pass»\" *\n",
    ),
    (
        "/etc/ipsec.secrets",
        "# keys\n10.1.1.1 10.1.1.2 : PSK «pre-shared-key|\"sh4red between two\"»\nalice : EAP «pre-shared-key|\"e4p\"»\n",
    ),
    (
        "/etc/haproxy/haproxy.cfg",
        "userlist u\n    user alice insecure-password «password|letmein1»\nlisten stats\n    stats auth admin:«password|st4ts»\n    stats uri /\n",
    ),
    (
        "/etc/redis/redis.conf",
        "bind 127.0.0.1\nrequirepass «password|r3dis»\nmasterauth «password|r3plica»\n",
    ),
    (
        "/etc/bind/rndc.key",
        "key \"rndc-key\" {\n\talgorithm hmac-sha256;\n\tsecret \"«password|tYx4l2LqFqk8GVvqkMhZ2pUOC1kzGgTnzTqHdYpZ1nY=»\";\n};\n",
    ),
    (
        "/etc/bird/bird.conf",
        "protocol bgp a {\n  neighbor 10.0.0.1 as 65001;\n  password \"«password|bgpp4ss»\";\n}\n",
    ),
    (
        "/etc/keepalived/keepalived.conf",
        "authentication {\n    auth_type PASS\n    auth_pass «password|vrrp1234»\n}\n",
    ),
    (
        "/etc/frr/frr.conf",
        "hostname r1\npassword «password|zebra9»\nenable password «password|en4ble»\n!\nrouter bgp 65000\n neighbor 10.0.0.1 password «password|n31ghbor»\ninterface eth0\n ip ospf message-digest-key 1 md5 «pre-shared-key|0spfk3y»\n isis password md5 «password|1s1s»\n",
    ),
    (
        "/devices/core.cfg",
        "version 15.1\nenable secret 5 «password-hash|$1$mERr$hx5rVt7rPNoS4wqbXKX7m0»\nusername admin privilege 15 password 7 «password|094F471A1A0A»\nsnmp-server community «community|c0mmRW» RW\n\
         snmp-server host 10.1.1.5 version 2c «community|tr4pc»\ntacacs-server key 7 «pre-shared-key|1511021F0725»\ncrypto isakmp key «pre-shared-key|vpnk3y» address 192.0.2.1\nkey chain a\n key 1\n  key-string «pre-shared-key|ch41n»\n\
         ntp authentication-key 1 md5 «pre-shared-key|060506324F41» 7\n",
    ),
    (
        "/devices/juniper.conf",
        "system {\n    root-authentication {\n        encrypted-password \"«password-hash|$6$Yz9f1kCo$abcdefghijklmnopqrstuvwxyz0123»\"; ## SECRET-DATA\n    }\n    radius-server {\n        10.0.0.9 secret \"«password-hash|$9$LbHX-wg4Z.PTQnCp0IrlaJGU»\"; ## SECRET-DATA\n    }\n}\n",
    ),
    (
        "/devices/huawei.cfg",
        "local-user admin password irreversible-cipher «password|%^%#Xy7hY2e6!$K2jd8Q0w9L%^%#»\nsnmp-agent community read cipher «community|%^%#abcDEF123456%^%#»\n",
    ),
    (
        "/devices/forti.conf",
        "config system admin\n    edit \"admin\"\n        set password ENC «password|SH2nT4bWqzXm0PqLrStUvWxYz0123456789abcdef»\n    next\nend\n",
    ),
    ("/etc/ldap/slapd.ldif", "olcRootPW: «password-hash|{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3»\n"),
    (
        "/etc/grub.d/40_custom",
        "set superusers=\"root\"\npassword_pbkdf2 root «password-hash|grub.pbkdf2.sha512.10000.0123456789ABCDEF0123.FEDCBA98765432100123»\n",
    ),
    (
        "/var/www/wp-config.php",
        "<?php\ndefine('DB_NAME', 'wp');\ndefine( 'DB_PASSWORD', '«secret|w0rdpr3ss»' );\ndefine('AUTH_KEY',         '«secret|x7#Gz k;+ 1|vQ»');\n",
    ),
    (
        "/home/a/.m2/settings.xml",
        "<server><id>a</id><username>u</username><password>«password|m4v3n»</password></server>\n",
    ),
    (
        "/etc/tomcat10/tomcat-users.xml",
        "<user username=\"admin\" password=\"«password|t0mc4t»\" roles=\"manager-gui\"/>\n",
    ),
    (
        "/etc/cron.d/sync",
        "5 4 * * * root curl -s -u sync:«password|cr0npass» https://x.example.net/\n",
    ),
    (
        "/etc/systemd/system/a.service",
        "[Service]\nExecStart=/usr/bin/a --api-key=«password|kEy99887766» --port 1\nEnvironment=\"DB_PASSWORD=«password|un1tpass»\"\n",
    ),
    (
        "/etc/ceph/ceph.client.admin.keyring",
        "[client.admin]\n\tkey = «pre-shared-key|AQBSdFhcGAAAABAAZtZ0y1vT2xYd0kS3xW0kXg==»\n\tcaps mds = \"allow *\"\n",
    ),
    (
        "/etc/fstab",
        "//nas/a /mnt cifs username=u,password=«password|cifs-99» 0 0\nUUID=0a3407de-014b-458b-b5c1-848e92a327a3 / ext4 defaults 0 1\n",
    ),
    (
        "/etc/app/sql.sql",
        "ALTER ROLE app WITH ENCRYPTED PASSWORD '«password|r0leP»';\nCREATE USER u IDENTIFIED BY '«password|mysq1»';\n",
    ),
    (
        "/etc/chrony/chrony.keys",
        "1 SHA256 «pre-shared-key|HEX:1dc764e0791b11fa67efc7ecbc4b0d73f68a070c»\n",
    ),
    (
        "/etc/raddb/clients.conf",
        "client a {\n  ipaddr = 10.0.0.1\n  secret = «secret|testing123»\n}\n",
    ),
]
