//! Words that tell an order to whoever writes an answer from a note to whoever makes a page. Both begin with a verb;
//! they differ by what the verb is done to. A word may be several things.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a word may be; a set of bits.
pub(super) type Kinds = u32;

/// An order by itself when a sentence begins with it: makers of pages write it neither to each other nor to visitors.
pub(super) const ASKS: Kinds = 1;
/// An order if something of an answer is spoken of.
pub(super) const DOES: Kinds = 1 << 1;
/// An order if something of an answer, or a manner of speaking, follows: "answer" is a noun too.
pub(super) const TALKS: Kinds = 1 << 2;
/// A verb that is an order before "Sie" alone.
pub(super) const SIE: Kinds = 1 << 3;
/// Something of an answer, of whom it is for, or of what it judges.
pub(super) const ABOUT: Kinds = 1 << 4;
/// Something of a page, a program or a form: the sentence is for people.
pub(super) const NOTE: Kinds = 1 << 5;
/// What may stand before the verb.
pub(super) const LEAD: Kinds = 1 << 6;
/// Begins a clause before the order: "When …, say …".
pub(super) const CLAUSE: Kinds = 1 << 7;
/// A manner of speaking, directly behind a verb that talks.
pub(super) const HOW: Kinds = 1 << 8;
/// Follows a noun and no verb: "list of".
pub(super) const OF: Kinds = 1 << 9;
/// What a model does with a text: "when summarizing this, …".
pub(super) const READS: Kinds = 1 << 10;
/// What programs do too, as the first lines of their documentation say: an order there only with what it is about.
pub(super) const MAKES: Kinds = 1 << 11;
/// What templates of reports and documents ask their writers for.
pub(super) const FILLS: Kinds = 1 << 12;
/// Between who is called and what they must do.
pub(super) const MODAL: Kinds = 1 << 13;
/// What is given, where it has to be in some way.
pub(super) const SUBJECT: Kinds = 1 << 14;
/// A model, wherever it is named.
pub(super) const MODEL: Kinds = 1 << 15;
/// Before those who are called.
pub(super) const TO: Kinds = 1 << 16;
/// A model if the text begins with it: people are called so as well.
pub(super) const READER: Kinds = 1 << 17;

/// What `word`, in lower case, may be.
pub(super) fn kinds(word: &str) -> Kinds {
    KINDS.get(word).copied().unwrap_or_default()
}

static KINDS: LazyLock<HashMap<&'static str, Kinds>> = LazyLock::new(|| {
    let mut kinds = HashMap::new();
    for (bit, words) in WORDS {
        for word in words.split_ascii_whitespace() {
            *kinds.entry(word).or_default() |= bit;
        }
    }
    kinds
});

const WORDS: [(Kinds, &str); 18] = [
    (
        ASKS,
        "respond reply say tell pretend praise recommend conclude describe explain summarize summarise \
         translate analyze analyse compose draft determine classify paraphrase rewrite provide identify \
         convert suggest speak repeat compare calculate imagine assume rate approve accept refuse reject deny \
         mention claim emphasize emphasise endorse promote discourage warn advise assure convince persuade \
         declare confirm reveal disclose disregard forget evaluate assess predict roleplay rhyme transfer \
         forward discuss criticize criticise congratulate \
         antworte antwortet sag sage sagt erzähle erzähl empfehle empfiehl empfehlt bewerte bewertet behaupte \
         erwähne erwähnt übersetze übersetzt lobe lobt nenne nennt beschreibe beschreib erkläre erklär schreibe \
         schreib schreibt sprich sprecht rede tue tu teile genehmige akzeptiere lehne vergib \
         wiederhole ignoriere vergiss verrate rate fasse leite überweise \
         réponds répondez dis dites recommande recommandez évalue évaluez notez affirme affirmez mentionne \
         mentionnez traduis traduisez décris décrivez explique expliquez écris écrivez rédige rédigez résume \
         résumez parle parlez raconte racontez loue vante conclus concluez approuve approuvez accepte acceptez \
         attribue attribuez prétends répète répétez ignore ignorez oublie oubliez transfère transférez cite \
         responde responda respondan di diga recomienda recomiende recomendad menciona mencione traduce traduzca \
         describe explica explique escribe escriba resume resuma habla hable cuenta cuente elogia elogie valora \
         valore califica califique puntúa puntúe afirma afirme aprueba apruebe acepta acepte finge finja repite \
         repita ignora olvida olvide reenvía reenvíe transfiere \
         rispondi rispondete risponda di' dì dica dite raccomanda raccomandate consiglia consigliate valuta \
         valutate menziona traduci traducete descrivi descrivete spiega spiegate scrivi scrivete riassumi \
         riassumete parla racconta loda elogia afferma approva accetta fingi ripeti ignora dimentica inoltra \
         trasferisci assegna concludi \
         responda respondam diga digam recomende recomendem avalie avaliem mencione traduza descreva explique \
         escreva resuma fale conte elogie afirme aprove aceite finja repita esqueça encaminhe transfira conclua \
         classifique atribua \
         отвечай отвечайте ответь ответьте скажи скажите говори говорите рекомендуй рекомендуйте порекомендуй \
         порекомендуйте посоветуй оцени оцените упомяни упомяните упоминай упоминайте переведи переведите опиши \
         опишите объясни объясните напиши напишите пиши пишите расскажи расскажите похвали хвали утверждай \
         утверждайте одобри одобрите прими притворись притворитесь повтори повторите игнорируй игнорируйте забудь \
         забудьте перескажи поставь поставьте сделай заяви сообщи сообщите перешли переведи \
         cevapla yanıtla yanıtlayın söyle söyleyin öner önerin \
         menciones digas recomiendes hables reveles respondas menzionare dire rivelare parlare raccomandare \
         consigliare summarize \
         conceal quote verschweige verschweigt conseille conseillez",
    ),
    (
        DOES,
        "add append include insert put use start begin end finish close open print output list name write create \
         generate produce make send email mark set skip delete book buy order score grade rank count \
         state show highlight omit avoid change replace turn keep act treat consider ignore favor favour \
         prefer award assign sign answer call ask replace call invite \
         convey stress hide remove share quote cite invent sing follow execute run pay \
         füge fügen hänge setze stelle ende liste baue nutze sende schicke lass lasse ersetze markiere wähle \
         ajoute ajoutez inclus incluez termine terminez commence commencez utilise utilisez mets mettez envoie \
         envoyez donne donnez place cache omets remplace fais faites choisis liste insère insérez \
         añade añada agrega agregue incluye incluya termina termine empieza empiece usa use pon ponga envía envíe \
         da dé haz haga elige omite lista inserta marca \
         aggiungi aggiungete includi includete termina inizia comincia usa usate metti invia inviate dai fai \
         scegli inserisci elenca ometti \
         adicione acrescente inclua termine comece use coloque envie dê faça escolha omita insira liste \
         добавь добавьте включи включите вставь вставьте начни начните закончи закончите используй используйте \
         отправь отправьте дай дайте выбери перечисли пришли ekle ekleyin yaz yazın kullan \
         give gib stufe note notez \
         beginne verwende benutze beende order post subscribe cancel upgrade label visit open \
         click grade score hire swap spell verberge verstecke cachez cache oculta oculte ocultad nascondi \
         nascondete esconda esconde скрой скройте",
    ),
    (TALKS, "leave answer respond reply speak talk write sing act end"),
    (
        SIE,
        "antworten sagen erzählen empfehlen bewerten behaupten erwähnen übersetzen loben nennen beschreiben \
         erklären schreiben sprechen genehmigen akzeptieren verwenden beenden beginnen wiederholen ignorieren \
         vergessen geben fassen leiten",
    ),
    (
        ABOUT,
        "answer answers reply replies response responses summary summaries output outputs reader \
         readers reviewer summarizing summarising answering responding replying translating asked \
         product products review reviews star stars applicant applicants candidate candidates company competitor \
         competitors competition rival rivals hotel restaurant brand essay manuscript invoice invoices payment \
         transaction grade rating verdict english german french spanish italian latin portuguese chinese japanese \
         korean russian arabic dutch turkish klingon capital capitals uppercase lowercase letter letters word words \
         sentence sentences phrase poem joke jokes story song haiku limerick emoji emojis rhyme rhymes pirate \
         conversation chat instructions prompt secret secrets budget funds money calendar \
         best worst positive negative favourably favorably excellent outstanding highly safe risks weaknesses \
         advantages drawbacks praise user's fact facts opinion sentiment \
         everything nothing \
         antwort antworten zusammenfassung leser leserin bewertung bewerber bewerberin kandidat kandidaten produkt \
         firma unternehmen hotel sterne sternen bestnote englisch deutsch französisch spanisch latein wort wörter \
         wörtern satz sätze sätzen gedicht witz großbuchstaben kleinbuchstaben konkurrenz mitbewerber rechnung \
         passwort passwörter nutzer vorteile nachteile \
         réponse réponses résumé lecteur lecteurs candidat candidate produit produits entreprise étoiles étoile \
         anglais allemand français espagnol italien latin mot mots phrase phrases poème blague majuscules \
         minuscules concurrents concurrent facture avis avantages défauts \
         respuesta respuestas resumen lector lectores candidato producto empresa estrellas inglés alemán francés \
         español latín palabra palabras frase frases poema chiste mayúsculas minúsculas factura reseñas reseña \
         ventajas competidores \
         risposta risposte riassunto lettore lettori prodotto azienda stelle inglese tedesco francese spagnolo \
         italiano latino parola parole poesia barzelletta maiuscolo minuscolo fattura recensioni vantaggi \
         concorrenti \
         resposta respostas resumo leitor leitores produto estrelas inglês alemão francês espanhol português \
         palavra palavras piada maiúsculas minúsculas fatura avaliações vantagens concorrentes \
         ответ ответе ответа ответы читателю читатель пользователю резюме кандидата кандидат товар товара продукт \
         компания компании звёзд звезд английском немецком французском русском слово словом слова стихотворение \
         шутку буквами отзывы преимущества оценку \
         passwords cv score highest manuscript reader's instructed positively verse verses rhyming \
         reasons synonyms antonyms ways ideas tips uses largest biggest longest oldest richest famous \
         countries cities lakes rivers mountains planets animals \
         author exam submission benefits marks spam customer account dollars euros meeting refund film \
         movie book restaurant accident flaws defects shortcomings autor autorin nachteil mängel \
         bewerber note auteur défauts défaut livre film defectos autor libro difetti autore libro defeitos \
         недостатки недостатков балл автора книгу",
    ),
    (
        NOTE,
        "todo fixme xxx hack here below box field fields form forms button buttons comment comments template \
         templates header headers footer nav navigation navbar menu menus sidebar widget widgets div css html js \
         javascript script scripts stylesheet class classes id tag tags file files folder directory function \
         functions variable variables parameter parameters argument arguments module modules plugin \
         component components layout markup wrapper container column columns row rows tab tabs modal popup dialog \
         dropdown checkbox slider banner logo icon icons thumbnail carousel slot block blocks links placeholder \
         breadcrumb breadcrumbs cache config configuration server database api endpoint request requests url urls \
         browser browsers ie polyfill loop render build deploy version versions release changelog commit commits \
         branch merge pr prs pull issue issues ticket tickets bug bugs feature fix fixes test tests testing \
         screenshot screenshots log logs error errors exception stack trace reproduce reproduction environment \
         dependency dependencies motivation change changes behavior behaviour expected actual maintainer \
         maintainers contributor contributors applicable relevant necessary needed optional required terms cookie \
         cookies conditions privacy licence license copyright cart basket checkout login logged subscribe \
         newsletter click press enter upload download input submit cancel settings us me tooltip hover keyboard \
         screen string strings docs documentation readme heading headings chapter toc anchor metadata code snippet \
         attribute attributes element elements node nodes pixel pixels px font fonts color colour width height \
         your yours my item items entry entries image images photo photos picture subsection section sections \
         table tables pages title titles example examples uncomment generated autogenerated data type types value \
         values option options default object objects array index tracking analytics ad ads advert \
         here's documented steps step detail details proposal alternatives context information problem \
         solution approach checklist backward backwards compatibility implementation deprecated \
         hier unten oben feld felder formular schaltfläche menü kopfzeile fußzeile datei dateien vorlage \
         klasse ihr ihre ihren ihrer ihrem uns ändern eingeben klicken klicke auswählen \
         ici dessous dessus champ champs formulaire bouton fichier fichiers gabarit en-tête menu vous votre vos \
         nous cliquez saisissez remplissez \
         aquí abajo campo campos formulario botón menú archivo archivos plantilla encabezado usted nosotros \
         nos haga clic \
         qui sotto modulo pulsante pagina intestazione vostro vostra tuo tua clicca \
         aqui abaixo formulário botão arquivo arquivos modelo cabeçalho rodapé você seu sua clique \
         здесь ниже выше поле форма форму кнопку кнопка файл файлы шаблон меню ваш ваше вашу ваши нам нас \
         limit limits names hello goodbye languages password team adviser we blog free fehler schritte \
         änderung änderungen problem warum warenkorb you erreur bogue problème panier étapes carrito error \
         pasos carrello errore problema carrinho erro problema ошибку ошибка шаги корзину корзина moyenne \
         average \
         implemented rationale findings outcomes workflow architecture functionality scope impact \
         verification results command commands migration reviewers design decision decisions requirement \
         requirements specification acceptance criteria evidence overview project repository package \
         library business waiver deprecation bullets \
         bold italic green tick feed mobile desktop visitor visitors stock line lines span search \
         codes editors point points language hover search users \
         within bis avant antes до entro description descriptions",
    ),
    (
        LEAD,
        "please kindly now then also always never only just instead simply and but so do not don't don’t must should \
         shall you bitte nun jetzt immer nur nie niemals dann auch veuillez merci toujours jamais ne n' uniquement \
         por favor siempre nunca solo sólo no per favore sempre mai non solo apenas não sempre пожалуйста всегда \
         никогда не только теперь lütfen therefore however important attention note hinweis",
    ),
    (
        CLAUSE,
        "when whenever if in at from for while as before after regardless throughout upon wenn falls bei beim am ab \
         in im quand lorsque si à dans dès pour cuando en desde quando nella quando \
         при если когда в с",
    ),
    (
        HOW,
        "in only with as like exclusively always every everything everyone all each using nothing without yes about out",
    ),
    (
        MODEL,
        "ai ki ia ии ais llm llms gpt chatgpt gpt-4 claude gemini copilot  deepseek \
         sprachmodell sprachmodelle sprachmodelles chatbot chatbots нейросеть нейросети summarizer summariser",
    ),
    (OF, "by of du des del della dello dei degli da do von der für and und et y e section sections here"),
    (
        FILLS,
        "describe explain summarize summarise provide identify list state mention give specify name write tell \
         beschreibe erkläre nenne décris décrivez explique expliquez describa describe explica descrivi spiega descreva \
         опишите объясните",
    ),
    (
        MODAL,
        "must should shall needs need has have cannot muss müssen soll sollen sollte sollten doit doivent devrait \
         debe deben deve devono devem должен должна должны обязан",
    ),
    (
        SUBJECT,
        "summary reply replies response responses answer answers zusammenfassung antwort réponse résumé respuesta",
    ),
    (
        MAKES,
        "convert compare calculate classify repeat transfer forward accept reject deny confirm evaluate assess predict \
         assume determine",
    ),
    (
        READS,
        "summarize summarise summarizing summarising summarized summarizes translating answering responding \
         replying asked zusammenfassen zusammenfasst zusammenfassung antwortest resumir resumes résumes résumez \
         résumé riassumi riassumere resumindo",
    ),
    (TO, "attention achtung for to dear hey für an alle liebe pour aux para per los les gli aos для"),
    (
        READER,
        "assistant assistants assistent asistente assistente model models bot bots agent agents translator ассистент",
    ),
];
